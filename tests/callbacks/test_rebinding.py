"""Where a callback really connects to, whatever a name stood for before, and whatever the environment or the target says."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import dns.asyncbackend
import dns.asyncquery
import dns.message
import dns.rrset
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.callbacks.target import BlockedAddress, Targets
from quart_async_api.http.parts import parts_of
from tests.engine.conftest import until

from .conftest import SECRET, Certified, Document, Make, on_sqlite
from .receiver import Receiver, answering

NAME = "rebound.example"
PUBLIC = "93.184.216.34"
BACKEND = dns.asyncbackend.get_backend("asyncio")


class NameServer(asyncio.DatagramProtocol):
    """Answers with `answers` in turn, and with the last of them from then on."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, ...]] = []
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        name = query.question[0].name
        response.answer.append(dns.rrset.from_text(name, 0, "IN", "A", *addresses))
        self._transport.sendto(response.to_wire(), address)


class Asking(AbstractResolver):
    """Asks the name server each time; whatever address it gives is reached at `port`."""

    def __init__(self, server: NameServer, port: int) -> None:
        self._server = server
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        query = dns.message.make_query(host, "A")
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=self._server.port, timeout=5, backend=BACKEND)
        return [
            ResolveResult(hostname=host, host=str(record), port=self._port, family=socket.AF_INET, proto=0, flags=0)
            for found in answer.answer
            for record in found
        ]

    async def close(self) -> None: ...


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    yield server
    transport.close()


@pytest.fixture
async def inside(certified: Certified) -> AsyncIterator[Receiver]:
    """What a callback must not reach: on loopback, with a certificate that it would trust."""
    async with Receiver(tls=certified(NAME)) as receiver:
        yield receiver


async def sent(client: QuartClient, url: str) -> list[Document]:
    """The callbacks of a new job, when the one there is has been tried."""
    response = await client.get("/test", query_string={"callback_url": url})
    assert response.status_code == 202, await response.get_data()
    link = (await response.get_json())["links"]["callbacks"]

    async def items() -> list[Document]:
        found: list[Document] = (await (await client.get(link)).get_json())["items"]
        return found

    async def tried() -> bool:
        return any(item["attempts"] for item in await items())

    await until(tried)
    return await items()


async def client_of(
    settings: Settings, resolver: AbstractResolver, verify: ssl.SSLContext
) -> AsyncGenerator[QuartClient]:
    app = create_app(settings, callback_resolver=resolver, callback_verify=verify)
    async with app.test_app():
        await parts_of(app).database.client.execute_query(
            "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES ('', ?, '')", [SECRET]
        )
        made = app.test_client()
        assert isinstance(made, QuartClient)
        yield made


@pytest.mark.parametrize(
    "then",
    [("127.0.0.1",), (PUBLIC, "127.0.0.1"), ("169.254.169.254",)],
    ids=["loopback", "public and loopback", "metadata"],
)
async def test_a_name_that_is_rebound_after_it_was_checked_is_not_connected_to(
    settings: Settings, names: NameServer, inside: Receiver, trusting: ssl.SSLContext, then: tuple[str, ...]
) -> None:
    names.answers = [(PUBLIC,), then]
    asking = Asking(names, inside.port)
    assert await Targets(settings, asking).resolve(NAME, 443)
    clients = client_of(settings, asking, trusting)
    async with contextlib.aclosing(clients):
        [callback] = await sent(await anext(clients), f"https://{NAME}/hook")
    assert names.asked == 2
    assert inside.connections == 0
    assert callback["attempts"][0]["status"] is None
    assert "has no address, or one that is not on the public internet" in callback["attempts"][0]["error"]


async def test_the_same_name_is_reached_where_private_addresses_are_allowed(
    settings: Settings, names: NameServer, inside: Receiver, trusting: ssl.SSLContext
) -> None:
    names.answers = [("127.0.0.1",)]
    private = settings.model_copy(update={"callback_allow_private": True})
    clients = client_of(private, Asking(names, inside.port), trusting)
    async with contextlib.aclosing(clients):
        [callback] = await sent(await anext(clients), f"https://{NAME}/hook")
    assert callback["status"] == "delivered", callback
    inside.sent[0].verify(SECRET)


async def test_a_name_with_one_address_that_is_not_public_is_refused(names: NameServer) -> None:
    names.answers = [(PUBLIC, "10.0.0.1")]
    with pytest.raises(BlockedAddress, match="not on the public internet"):
        await Targets(Settings(database_url="sqlite://unused.db"), Asking(names, 443)).resolve(NAME, 443)


async def test_what_the_settings_no_longer_allow_is_not_sent(
    make: Make, inside: Receiver, names: NameServer, trusting: ssl.SSLContext
) -> None:
    names.answers = [("127.0.0.1",)]
    before = await make(sender=False)
    job = await before.ended(inside.url)
    resolver = Asking(names, inside.port)
    service = await make(callback_allow_private=False, resolver=resolver, verify=trusting)
    [attempt] = await service.attempts(job, 1)
    assert attempt["error"].startswith("BadTarget")
    assert inside.connections == 0


@on_sqlite
async def test_no_proxy_of_the_environment_is_used(
    make: Make, receiver: Receiver, another: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, another.origin)
        monkeypatch.setenv(name.lower(), another.origin)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    service = await make()
    [callback] = await service.settled(await service.ended(receiver.url))
    assert callback["status"] == "delivered"
    assert another.connections == 0


@on_sqlite
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(
    make: Make, receiver: Receiver, another: Receiver, status: int
) -> None:
    service = await make()
    receiver.otherwise = answering(status, location=another.url)
    job = await service.ended(receiver.url)
    [attempt] = await service.attempts(job, 1)
    assert attempt["status"] == status
    assert attempt["error"] == "redirects are not followed"
    assert another.connections == 0
    [callback] = await service.callbacks_of(job)
    assert callback["status"] == "pending"


@on_sqlite
async def test_no_cookie_is_kept(make: Make, receiver: Receiver) -> None:
    service = await make()
    receiver.otherwise = answering(200, set_cookie="session=secret")
    await service.settled(await service.ended(receiver.url), await service.ended(receiver.url))
    assert not any("cookie" in sent.headers for sent in receiver.sent)


@on_sqlite
async def test_a_certificate_of_another_name_is_not_taken(
    make: Make, inside: Receiver, names: NameServer, trusting: ssl.SSLContext
) -> None:
    names.answers = [("127.0.0.1",)]
    service = await make(resolver=Asking(names, inside.port), verify=trusting)
    job = await service.ended("https://other.example/hook")
    [attempt] = await service.attempts(job, 1)
    assert "not valid for 'other.example'" in attempt["error"]
    assert not inside.sent


@on_sqlite
async def test_a_certificate_of_nobody_we_know_is_not_taken(
    make: Make, names: NameServer, trusting: ssl.SSLContext, certified: Certified
) -> None:
    names.answers = [("127.0.0.1",)]
    async with Receiver(tls=certified(NAME, by=trustme.CA())) as stranger:
        service = await make(resolver=Asking(names, stranger.port), verify=trusting)
        job = await service.ended(f"https://{NAME}/hook")
        [attempt] = await service.attempts(job, 1)
    assert "CERTIFICATE_VERIFY_FAILED" in attempt["error"]
    assert not stranger.sent
