"""What the client promises: bounds on time, calls at once and size, safe repeats, and nothing kept or leaked."""

import asyncio
import gzip
from collections import Counter
from collections.abc import Callable
from typing import Self

import httpx
import pytest
from aiohttp import web

from quart_async_api.errors import UpstreamFailed, UpstreamTimeout
from quart_async_api.settings import Settings
from quart_async_api.upstream.client import (
    UPSTREAM_ERRORS,
    DeadlineExceeded,
    ResponseTooLarge,
    SchemeChanged,
    UpstreamClient,
    fetch_json,
    translate,
)

from .faults import Fault, FaultyStandIn, document, in_turn, status


def limited(timeout: float = 30, concurrency: int = 100) -> Settings:
    return Settings(upstream_timeout=timeout, upstream_concurrency=concurrency, upstream_max_bytes=1_000_000)


# Time


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_IN_BODY])
async def test_a_call_ends_at_its_deadline(world: FaultyStandIn, fault: Fault) -> None:
    world.faults["/api"] = fault
    async with UpstreamClient(limited(timeout=1)) as client:
        with pytest.raises(httpx.TimeoutException):
            await client.get(world.external_api_url)
        assert world.calls["/api"] == 1


async def test_the_deadline_covers_retries(world: FaultyStandIn) -> None:
    world.faults["/api"] = in_turn(status(503, Retry_After="0"), Fault.HANG)
    async with UpstreamClient(limited(timeout=2)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.get(world.external_api_url)
    assert world.calls["/api"] == 2


async def test_the_deadline_covers_redirects(world: FaultyStandIn) -> None:
    world.faults["/api"] = Fault.REDIRECT_LOOP
    world.latency = 0.15
    async with UpstreamClient(limited(timeout=0.5)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.get(world.external_api_url)
    assert world.calls["/api"] <= 4  # without it: 11 calls, then TooManyRedirects


async def test_the_deadline_covers_a_streamed_body(world: FaultyStandIn) -> None:
    world.faults["/api"] = Fault.HANG_IN_BODY
    async with UpstreamClient(limited(timeout=1)) as client, client.stream("GET", world.external_api_url) as response:
        with pytest.raises(httpx.TimeoutException):
            await response.aread()


@pytest.mark.slow
async def test_waiting_for_a_turn_does_not_spend_the_deadline(world: FaultyStandIn) -> None:
    world.latency = 0.3
    async with UpstreamClient(limited(timeout=2, concurrency=1)) as client:
        responses = await asyncio.gather(*(client.get(world.external_api_url) for _ in range(8)))
    assert {response.status_code for response in responses} == {200}


# Repeats


@pytest.mark.parametrize("code", [429, 502, 503, 504])
async def test_a_passing_failure_is_repeated(outside: UpstreamClient, world: FaultyStandIn, code: int) -> None:
    world.faults["/api"] = status(code, times=2, Retry_After="0")
    assert (await outside.get(world.external_api_url)).json() == {"recovered": True}
    assert world.calls["/api"] == 3


async def test_three_failures_are_answered_with_the_last(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = status(503)
    response = await outside.get(world.external_api_url)
    assert (response.status_code, response.json()) == (503, {"error": 503})
    assert world.calls["/api"] == 3


@pytest.mark.parametrize("fault", [Fault.DISCONNECT, Fault.PARTIAL_BODY])
async def test_a_broken_connection_is_repeated_also_in_mid_body(
    outside: UpstreamClient, world: FaultyStandIn, fault: Fault
) -> None:
    async def once(request: web.Request) -> web.StreamResponse:
        del world.faults["/api"]
        return await fault(request)

    world.faults["/api"] = once
    assert (await outside.get(world.external_api_url)).status_code == 200
    assert world.calls["/api"] == 2


@pytest.mark.parametrize("code", [400, 404, 500])
async def test_a_lasting_failure_is_not_repeated(outside: UpstreamClient, world: FaultyStandIn, code: int) -> None:
    world.faults["/api"] = status(code)
    assert (await outside.get(world.external_api_url)).status_code == code
    assert world.calls["/api"] == 1


@pytest.mark.parametrize("fault", [Fault.DISCONNECT, Fault.PARTIAL_BODY, Fault.NOT_HTTP])
async def test_a_post_is_not_repeated_once_it_was_sent(
    outside: UpstreamClient, world: FaultyStandIn, fault: Fault
) -> None:
    await outside.get(world.external_api_url)  # the post finds an open connection
    world.faults["/pay"] = fault
    with pytest.raises(httpx.RemoteProtocolError):
        await outside.post(f"{world.url}/pay", json={"amount": 1})
    assert world.calls["/pay"] == 1


async def test_a_post_is_not_repeated_after_503(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/pay"] = status(503, Retry_After="0")
    assert (await outside.post(f"{world.url}/pay")).status_code == 503
    assert world.calls["/pay"] == 1


async def test_a_post_that_was_never_sent_is_repeated() -> None:
    calls: Counter[str] = Counter()

    def refuse_first(request: httpx.Request) -> httpx.Response:
        calls[request.method] += 1
        if calls[request.method] == 1:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200)

    async with UpstreamClient(limited(), transport=httpx.MockTransport(refuse_first)) as client:
        assert (await client.post("http://outside/pay")).status_code == 200
    assert calls["POST"] == 2


async def test_a_retry_after_past_the_deadline_is_answered_at_once(
    outside: UpstreamClient, world: FaultyStandIn
) -> None:
    world.faults["/api"] = status(503, Retry_After="3600")
    async with asyncio.timeout(20):  # less than a call may take
        response = await outside.get(world.external_api_url)
    assert (response.status_code, response.json()) == (503, {"error": 503})
    async with outside.stream("GET", world.external_api_url) as streamed:
        assert await streamed.aread() == response.content
    assert world.calls["/api"] == 2


async def test_retry_after_is_waited_for(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = status(503, times=1, Retry_After="1")
    started = asyncio.get_running_loop().time()
    assert (await outside.get(world.external_api_url)).status_code == 200
    assert asyncio.get_running_loop().time() - started >= 1


# Calls at once


async def test_no_more_calls_at_once_than_the_setting_says(world: FaultyStandIn) -> None:
    world.latency = 0.02
    async with UpstreamClient(limited(concurrency=7)) as client:
        await asyncio.gather(*(client.get(world.external_api_url) for _ in range(50)))
    assert world.most_at_once == 7


async def test_hundreds_of_cancelled_and_timed_out_calls_leave_the_client_working(world: FaultyStandIn) -> None:
    world.faults["/hang"] = Fault.HANG
    async with UpstreamClient(limited(timeout=30, concurrency=10)) as client:
        calls = [asyncio.create_task(client.get(f"{world.url}/hang")) for _ in range(300)]
        await world.arrived.wait()
        client._seconds = 0.05  # of each call that gets its turn from now on
        cancelled = [*calls[:10], *calls[10::2]]  # those on the wire, and half of those that wait for a turn
        for call in cancelled:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert all(call.cancelled() for call in cancelled)
        assert Counter(type(call.exception()) for call in calls[11::2]) == {DeadlineExceeded: 145}

        client._seconds = 30  # a slow machine needs more than 0.05 s for what follows
        world.latency = 0.01
        world.most_at_once = 0
        responses = await asyncio.gather(*(client.get(world.external_api_url) for _ in range(40)))
    assert {response.status_code for response in responses} == {200}
    assert world.most_at_once == 10


async def test_every_failing_call_gives_its_slot_back(world: FaultyStandIn) -> None:
    async with UpstreamClient(limited(timeout=30, concurrency=1)) as client:
        client._seconds = 0.3
        for fault in Fault:
            world.faults["/api"] = fault
            try:
                await client.get(world.external_api_url)
            except UPSTREAM_ERRORS:
                continue
        with pytest.raises(httpx.InvalidURL):
            await client.get("http://a:b")
        client._seconds = 30
        async with asyncio.timeout(60):
            assert (await client.get(f"{world.url}/info.0.json")).status_code == 200


async def test_a_streamed_answer_holds_its_slot_until_it_is_closed(world: FaultyStandIn) -> None:
    async with UpstreamClient(limited(concurrency=1)) as client:
        async with client.stream("GET", world.external_api_url):
            other = asyncio.create_task(client.get(f"{world.url}/info.0.json"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not world.calls["/info.0.json"]
        assert (await other).status_code == 200


# Size


@pytest.mark.parametrize("fault", [Fault.HUGE, Fault.GZIP_BOMB])
async def test_a_longer_answer_than_allowed_is_refused(
    outside: UpstreamClient, world: FaultyStandIn, fault: Fault
) -> None:
    world.faults["/api"] = fault
    with pytest.raises(ResponseTooLarge):
        await outside.get(world.external_api_url)
    async with outside.stream("GET", world.external_api_url) as response:
        with pytest.raises(ResponseTooLarge):
            await response.aread()
    assert world.calls["/api"] == 2


@pytest.mark.parametrize(("length", "allowed"), [(1_000_000, True), (1_000_001, False)])
@pytest.mark.parametrize("compressed", [False, True])
async def test_the_cap_is_exact(
    outside: UpstreamClient, world: FaultyStandIn, length: int, allowed: bool, compressed: bool
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = b"x" * length
        return web.Response(
            body=gzip.compress(body) if compressed else body, headers={"Content-Encoding": "gzip"} if compressed else {}
        )

    world.faults["/api"] = answer
    if allowed:
        assert len((await outside.get(world.external_api_url)).content) == length
    else:
        with pytest.raises(ResponseTooLarge):
            await outside.get(world.external_api_url)


@pytest.mark.parametrize("fault", [Fault.BROKEN_GZIP, Fault.NO_GZIP, Fault.UNASKED_ENCODING])
async def test_a_body_that_cannot_be_decompressed_is_an_error(
    outside: UpstreamClient, world: FaultyStandIn, fault: Fault
) -> None:
    world.faults["/api"] = fault
    with pytest.raises(httpx.DecodingError):
        await outside.get(world.external_api_url)


async def test_head_of_a_compressed_resource_has_no_body_to_decompress(
    outside: UpstreamClient, world: FaultyStandIn
) -> None:
    world.faults["/api"] = Fault.GZIP_BOMB
    assert (await outside.head(world.external_api_url)).content == b""


# Redirects, headers, what is kept


async def test_a_redirect_to_another_scheme_is_refused(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = Fault.REDIRECT_TO_OTHER_SCHEME
    with pytest.raises(SchemeChanged):
        await outside.get(world.external_api_url)


async def test_a_redirect_within_the_scheme_is_followed(outside: UpstreamClient, world: FaultyStandIn) -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMovedPermanently("/api")

    world.faults["/old"] = moved
    response = await outside.get(f"{world.url}/old")
    assert (response.status_code, str(response.url)) == (200, world.external_api_url)


async def test_it_says_who_it_is_and_carries_the_trace(limits: Settings, world: FaultyStandIn) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with UpstreamClient(limits, headers=lambda: trace) as client:
        await client.get(world.external_api_url)
        await client.get(world.external_api_url, headers={"traceparent": "own"})
    assert [request.headers["traceparent"] for request in world.seen] == [trace["traceparent"], "own"]
    assert world.seen[0].headers["User-Agent"].startswith("quart-async-api/")


async def test_no_cookie_is_sent_back(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = document(1, Set_Cookie="sid=secret; Path=/")
    for _ in range(2):
        await outside.get(world.external_api_url)
    assert "Cookie" not in world.seen[1].headers
    assert not outside.cookies


async def test_proxies_of_the_environment_are_ignored(
    limits: Settings, world: FaultyStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with UpstreamClient(limits) as client:
        assert (await client.get(world.external_api_url)).status_code == 200


async def test_a_password_in_a_url_is_sent_but_shown_nowhere(
    outside: UpstreamClient, world: FaultyStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    world.faults["/secret"] = status(500)
    response = await outside.get(f"http://user:hunter2@127.0.0.1:{world.port}/secret")
    assert world.seen[0].headers["Authorization"].startswith("Basic ")
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()
    for text in (str(raised.value), str(translate(raised.value)), caplog.text):
        assert "hunter2" not in text


# Errors


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: str(fault.name))
async def test_every_fault_is_an_upstream_error(world: FaultyStandIn, fault: Fault) -> None:
    world.faults["/api"] = fault
    expected = UpstreamTimeout if fault in (Fault.HANG, Fault.HANG_IN_BODY) else UpstreamFailed
    async with UpstreamClient(limited(timeout=0.3 if expected is UpstreamTimeout else 30)) as client:
        if fault is Fault.WRONG_SHAPE:
            assert (await fetch_json(client, world.external_api_url))[0] == 200
            return
        with pytest.raises(expected) as raised:
            await fetch_json(client, world.external_api_url)
    assert str(raised.value).startswith(f"127.0.0.1:{world.port} ")


@pytest.mark.parametrize("code", [204, 304, 400, 404, 500])
async def test_a_status_that_carries_no_document_is_a_failure(
    outside: UpstreamClient, world: FaultyStandIn, code: int
) -> None:
    world.faults["/api"] = status(code)
    with pytest.raises(UpstreamFailed):
        await fetch_json(outside, world.external_api_url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "http://nowhere.invalid/", "http://a:b", "gopher://a/", "/relative", "http://"]
)
async def test_an_address_that_cannot_be_asked_is_a_failure(outside: UpstreamClient, url: str) -> None:
    with pytest.raises(UpstreamFailed):
        await fetch_json(outside, url)


async def test_a_document_is_returned_with_its_status(outside: UpstreamClient, world: FaultyStandIn) -> None:
    world.faults["/api"] = document({"a": [1, None, "é", 1.5]})
    assert await fetch_json(outside, world.external_api_url) == (200, {"a": [1, None, "é", 1.5]})


# Redirects to where a public service must not lead


def public_but_for(*addresses: str) -> Callable[[object], bool]:
    """Loopback has addresses enough to play both the public internet and what is not of it."""
    return lambda address: str(address) not in addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_a_public_service_redirected_the_client_to_a_private_address(world: FaultyStandIn, host: str) -> None:
    async with Inside(host) as inside:
        world.faults["/api"] = status(302, Location=f"http://{inside.address}/secret")
        async with UpstreamClient(limited(), is_public=public_but_for(inside.host)) as client:
            if inside.host == "127.0.0.1":  # then the first is private too, and may
                assert (await client.get(world.external_api_url)).text == "secret"
                return
            assert (await client.get(f"http://{inside.address}/secret")).text == "secret"  # asked for by its own name
            with pytest.raises(httpx.ConnectError):
                await client.get(world.external_api_url)
        assert inside.calls == 1


async def test_a_private_service_led_to_a_public_one_that_led_to_a_private_address(world: FaultyStandIn) -> None:
    async with Inside("127.0.0.2") as inside, Inside("127.0.0.3", world.external_api_url) as first:
        world.faults["/api"] = status(302, Location=f"http://{inside.address}/secret")
        async with UpstreamClient(limited(), is_public=public_but_for(inside.host, first.host)) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://{first.address}/")
        assert (first.calls, inside.calls) == (1, 0)


async def test_a_public_service_redirects_to_another_of_its_kind(world: FaultyStandIn) -> None:
    async with Inside("127.0.0.2") as inside:
        world.faults["/api"] = status(302, Location=f"http://{inside.address}/secret")
        async with UpstreamClient(limited(), is_public=lambda address: True) as client:
            assert (await client.get(world.external_api_url)).text == "secret"


async def test_a_get_after_a_redirect_carried_a_transfer_encoding(world: FaultyStandIn) -> None:
    async with Inside("127.0.0.1") as inside, UpstreamClient(limited()) as client:
        for method, code in (("GET", 302), ("GET", 307), ("POST", 303), ("HEAD", 301)):
            world.faults["/api"] = status(code, Location=f"http://{inside.address}/secret")
            await client.request(method, world.external_api_url)
            assert not {"Transfer-Encoding", "Content-Length"} & set(inside.headers)
        world.faults["/api"] = status(307, Location=f"http://{inside.address}/secret")
        await client.post(world.external_api_url, content=b"body")
        assert (inside.headers["Content-Length"], inside.body) == ("4", b"body")


class Inside:
    """A service on an address of its own, that answers everything with its secret, or redirects it."""

    def __init__(self, host: str, redirect: str | None = None) -> None:
        self.host = host
        self._redirect = redirect
        self.calls = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        self.headers = dict(request.headers)
        self.body = await request.read()
        if self._redirect:
            raise web.HTTPFound(self._redirect)
        return web.Response(text="secret")
