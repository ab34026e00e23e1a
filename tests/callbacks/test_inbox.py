"""The console's receiver: the one private target of callbacks, when it is open, and what it keeps of them."""

import socket
import time
from collections.abc import Mapping

import pytest
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.callbacks.inbox import KEPT, TOKENS, Inbox
from quart_async_api.callbacks.signature import headers
from quart_async_api.callbacks.target import BadTarget, BlockedAddress, Target, Targets
from quart_async_api.http.parts import parts_of
from quart_async_api.server.runner import _open_inbox
from quart_async_api.service import Service
from tests.http.conftest import read_events

from .conftest import SECRET
from .test_target import Names

TOKEN = "A" * 22
OWN = f"http://127.0.0.1:8000/console/inbox/{TOKEN}"
SETTINGS = Settings(database_url="sqlite://unused.db")


class Secrets:
    """One secret, whoever asks."""

    async def signing(self, owner: str | None) -> list[str]:
        return [SECRET]


def opened(host: str = "127.0.0.1", port: int = 8000) -> Inbox:
    inbox = Inbox(Secrets())  # type: ignore[arg-type]
    inbox.open(host, port)
    return inbox


def targets(inbox: Inbox, names: Mapping[str, tuple[str, ...]] | None = None) -> Targets:
    return Targets(SETTINGS, Names(names or {}), inbox)


def signed(body: bytes, secret: str = SECRET, id: str = "msg_1") -> dict[str, str]:
    return headers(id, int(time.time()), body, [secret])


def test_its_own_address_passes_and_closed_it_does_not() -> None:
    assert targets(opened()).parse(OWN).url == OWN
    _, url = opened("::1", 9).place(None) or ("", "")
    assert targets(opened("::1", 9)).parse(url).host == "::1"
    closed = Inbox(Secrets())  # type: ignore[arg-type]
    assert closed.place(None) is None
    with pytest.raises(BadTarget):
        targets(closed).parse(OWN)


@pytest.mark.parametrize(
    "url",
    [
        OWN.replace("8000", "8001"),
        OWN.replace(":8000", ""),
        OWN.replace("8000", "08000"),
        OWN.replace("http:", "https:"),
        OWN.replace("http:", "HTTP:"),
        OWN.replace("127.0.0.1", "127.0.0.2"),
        OWN.replace("127.0.0.1", "localhost"),
        OWN.replace("127.0.0.1", "127.1"),
        OWN.replace("127.0.0.1", "2130706433"),
        OWN.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        OWN.replace("127.0.0.1", "user@127.0.0.1"),
        OWN.replace("127.0.0.1", "own.example"),
        OWN.replace("/console", "/console/../console"),
        OWN.replace("inbox/", "inbox/%2e%2e/"),
        OWN.replace("inbox/", "inbox//"),
        OWN.replace("console", "%63onsole"),
        "http://127.0.0.1:8000/jobs",
        "http://127.0.0.1:8000/console/inbox/",
        f"http://127.0.0.1:8000/console/inbox/../../jobs/{TOKEN}",
        f"{OWN[:-2]}%2e%2e",
        f"{OWN}/..",
        f"{OWN}?x",
        f"{OWN}#x",
        f"{OWN}\n",
        f" {OWN}",
        f"{OWN}A",
        OWN[:-1],
        f"{OWN[:-1]}Ａ",
    ],
)
def test_nothing_else_there_passes_in_any_spelling(url: str) -> None:
    with pytest.raises(BadTarget):
        targets(opened()).parse(url)


@pytest.mark.parametrize(
    ("host", "alone", "opens"), [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("", True, False)]
)
def test_the_server_opens_it_at_loopback_in_one_process_alone(host: str, alone: bool, opens: bool) -> None:
    service = Service(SETTINGS, {})
    with socket.create_server((host, 0)) as listener:
        _open_inbox(service, listener, alone=alone)
        assert service.inbox.address == (listener.getsockname() if opens else None)


async def test_no_name_leads_there_and_no_socket_to_another_port() -> None:
    rules = targets(opened(port=443), {"own.example": ("127.0.0.1",)})
    assert rules.parse("https://own.example/").port == 443  # judged when it is called
    with pytest.raises(BlockedAddress):
        await rules.resolve("own.example", 443)
    rules.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))).close()
    for address in (("127.0.0.1", 80), ("127.0.0.2", 443)):
        with pytest.raises(BlockedAddress):
            rules.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", address))
    with pytest.raises(BlockedAddress):
        targets(Inbox(Secrets())).socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443)))  # type: ignore[arg-type]


async def test_another_process_calls_the_receiver_that_has_accepted_a_url() -> None:
    """A worker refused the receiver of `serve`: its port is of another process."""
    worker = Targets(SETTINGS.model_copy(update={"inbox": True}), Names({}), Inbox(Secrets()))  # type: ignore[arg-type]
    assert worker.accepted(OWN) == Target(OWN, "127.0.0.1", 8000)
    assert worker.accepted(OWN.replace("127.0.0.1", "[::1]")).host == "::1"
    worker.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 8000))).close()
    with pytest.raises(BlockedAddress):
        worker.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 8001)))
    with pytest.raises(BadTarget):
        worker.parse(OWN)  # no caller names it here
    for url in (
        OWN.replace("127.0.0.1", "10.0.0.1"),
        OWN.replace("inbox/", "inbox/../"),
        f"{OWN}/x",
        "http://127.0.0.1:8000/",
    ):
        with pytest.raises(BadTarget):
            worker.accepted(url)
    with pytest.raises(BadTarget):
        targets(Inbox(Secrets())).accepted(OWN)  # type: ignore[arg-type]


async def test_it_tells_good_signatures_from_others_and_counts_attempts() -> None:
    inbox = opened()
    token, _ = inbox.place(None) or ("", "")
    body = b'{"type": "job.succeeded", "data": {"id": "job 1"}}'
    first = await inbox.receive(token, signed(body), body)
    assert (first.problem, first.attempt, first.type, first.job_id) == (None, 1, "job.succeeded", "job 1")
    assert first.with_another_secret.startswith("no signature matches")
    second = await inbox.receive(token, signed(body), body)
    assert (second.attempt, second.number) == (2, 2)
    changed = await inbox.receive(token, signed(body), body.replace(b"1", b"2"))
    assert (changed.problem or "").startswith("no signature matches")
    assert (changed.type, changed.job_id) == ("", "")
    bare = await inbox.receive(token, {}, b"\xff" * 1000)
    assert (bare.problem, bare.bytes) == ("the header webhook-id is missing", 1000)
    assert inbox.arrivals(token, after=2) == [changed, bare]


async def test_what_it_keeps_is_bounded() -> None:
    inbox = opened()
    token, _ = inbox.place(None) or ("", "")
    long = "x" * 5000
    for _ in range(KEPT + 5):
        await inbox.receive(token, {"webhook-id": long}, b"{}")
    kept = inbox.arrivals(token)
    assert len(kept) == KEPT
    assert all(len(arrival.webhook_id) <= 200 and len(arrival.problem or "") <= 200 for arrival in kept)
    for _ in range(TOKENS):
        inbox.place(None)
    assert not inbox.has(token)
    assert inbox.arrivals("another") == []


async def test_the_routes_receive_refuse_and_stream(settings: Settings) -> None:
    app = create_app(settings)
    async with app.test_app():
        client, inbox = app.test_client(), parts_of(app).inbox
        assert isinstance(client, QuartClient)
        address = f"/console/inbox/{TOKEN}"
        assert (await client.post(address, data=b"{}")).status_code == 404  # it is closed
        inbox.open("127.0.0.1", 8000)
        assert (await client.post(address, data=b"{}")).status_code == 404  # it gave no such token
        token, url = inbox.place(None) or ("", "")
        assert url.endswith(token)
        await parts_of(app).secrets.create()
        [secret] = await parts_of(app).secrets.signing(None)
        body = b'{"type": "job.failed", "data": {"id": "<script>"}}'
        good = await client.post(f"/console/inbox/{token}", data=body, headers=signed(body, secret))
        bad = await client.post(f"/console/inbox/{token}", data=body, headers=signed(body, SECRET))
        assert (good.status_code, bad.status_code) == (204, 400)
        assert "no signature matches" in (await bad.get_json())["detail"]
        async with client.request(f"/console/pulse?inbox={token}") as connection:
            await connection.send_complete()
            text = ""
            while "event: lag" not in text:
                text += (await connection.receive()).decode()
            await connection.disconnect()
        told = read_events(text.replace("retry: 3000\n\n", ""))
        assert [event.name for event in told] == ["inbox", "callback", "callback", "lag"]
        assert told[0].data["open"] is True
        assert [event.data["problem"] is None for event in told[1:3]] == [True, False]
        assert all(milliseconds >= 0 for milliseconds in told[3].data["milliseconds"])
