"""Whatever is raised, anywhere, is answered as a problem under the request's id, and is one line in the log."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from quart import Quart, Response
from quart.testing import QuartClient
from quart.testing.connections import WebsocketResponseError
from werkzeug.exceptions import BadRequest

from quart_async_api import Settings, create_app
from quart_async_api.wire.proxies import TrustedProxies
from quart_async_api.wire.request_log import RequestLog
from tests.each import each

from .asgi import ask
from .test_problems import assert_is_problem

Message = dict[str, Any]
HOSTS = ["a..b", "a" * 64, "[::1]evil.com", "localhost:80@evil.com", "localhost:99999", "\xff", "xn--\xe9"]


async def assert_bad(response: Response) -> None:
    document = await response.get_json()
    assert response.status_code == 400, document
    assert_is_problem(response, document)
    assert document["type"] == "/problems/bad-request"


def request_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "quart_async_api.request"]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_host_that_no_name_can_be_is_a_bad_request_and_one_line(
    client: QuartClient, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await assert_bad(await client.get("/users", headers={"Host": host}))
    assert len(caplog.records) == 1
    assert not caplog.records[0].exc_info


@pytest.mark.parametrize("host", HOSTS)
async def test_a_forwarded_host_that_no_name_can_be_is_a_bad_request(settings: Settings, host: str) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": ("127.0.0.1",), "allowed_hosts": ("*",)}))
    scope = {"client": ("127.0.0.1", 1)}
    forwarded = {"X-Forwarded-Host": host}
    await assert_bad(await app.test_client().get("/users", headers=forwarded, scope_base=scope))


@each("host", HOSTS)
async def test_the_handshake_of_a_websocket_with_such_a_host_is_refused(client: QuartClient, host: str) -> None:
    async with client.websocket("/jobs/1/ws", headers={"Host": host}) as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    await assert_bad(refused.value.response)


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_request_without_a_host_or_with_two_is_bad_whichever_server_lets_it_pass(
    app: Quart, version: str
) -> None:
    for hosts in ((), (b"localhost", b"localhost")):
        status, _ = await call(app.asgi_app, http_version=version, headers=[(b"host", host) for host in hosts])
        assert status == 400


async def test_a_target_with_bytes_past_ascii_is_bad_whichever_server_lets_it_pass(app: Quart) -> None:
    for target in ({"raw_path": b"/users\xff"}, {"query_string": b"a=\xff"}):
        assert (await call(app.asgi_app, **target))[0] == 400


async def test_what_the_app_could_not_answer_counts_against_the_rate_limit(settings: Settings) -> None:
    client = create_app(settings.model_copy(update={"rate_limit": "3/hour"})).test_client()
    answers = [await client.get("/users", headers={"Host": "a..b"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
    assert int(answers[3].headers["Retry-After"]) > 0
    assert_is_problem(answers[3], await answers[3].get_json())


HELD_TO_HTTPS = "max-age=31536000"


@pytest.mark.parametrize("by", ["https", "a proxy's https", "wss"])
async def test_what_the_app_could_not_answer_lacked_what_every_answer_has(settings: Settings, by: str) -> None:
    changes = {
        "strict_transport_security": HELD_TO_HTTPS,
        "rate_limit": "9/hour",
        "trusted_proxies": ("127.0.0.1",),
    }
    app = create_app(settings.model_copy(update=changes))
    forwarded = [(b"x-forwarded-proto", b"https")] if by.startswith("a proxy") else []
    scope: Message = {"scheme": "http" if forwarded else by}
    if by == "wss":
        scope |= {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    answers = []
    async with app.test_app():
        for host in (b"localhost", b"a..b"):
            headers = [(b"host", host), *forwarded]
            _, [start, *_] = await call(app.asgi_app, **scope, path="/nowhere", raw_path=b"/nowhere", headers=headers)
            answers.append({name.lower(): value for name, value in start["headers"]})
    usual, last_resort = answers
    assert usual.keys() - {b"content-length"} <= last_resort.keys()
    for found in answers:
        assert found[b"strict-transport-security"].decode() == HELD_TO_HTTPS
    for name in (b"ratelimit-policy", b"x-content-type-options", b"referrer-policy", b"cross-origin-resource-policy"):
        assert usual[name] == last_resort[name]
    assert last_resort[b"ratelimit"].startswith(b'"default";r=7;t=')  # both were counted


async def test_over_http_nobody_is_held_to_https(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"strict_transport_security": HELD_TO_HTTPS}))
    _, [start, _] = await call(app.asgi_app, headers=[(b"host", b"a..b")])
    assert b"strict-transport-security" not in dict(start["headers"])


# A layer that raises

Raising = Callable[[Message, Any, Any], Awaitable[None]]
SCOPE: Message = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/users",
    "raw_path": b"/users",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
    "extensions": {},
}


async def call(app: Any, **scope: Any) -> tuple[int, list[Message]]:
    """The status, and all messages, that the app answers a request of this scope with."""
    sent: list[Message] = []
    kind = "websocket.connect" if scope.get("type") == "websocket" else "http.request"
    events = [{"type": kind, "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not events:
            await asyncio.Event().wait()
        return events.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(SCOPE | scope, receive, send)
    return next((message["status"] for message in sent if "status" in message), 0), sent


def layered(*before: Message, error: BaseException) -> RequestLog:
    """An app whose innermost layer sends something, and then raises."""

    async def fail(scope: Message, receive: Any, send: Any) -> None:
        for message in before:
            await send(dict(message))
        raise error

    return RequestLog(fail, TrustedProxies(()), None)


SECRET = RuntimeError("the secret reason")


async def test_a_fault_in_any_layer_is_a_500_that_tells_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    status, [start, body] = await call(layered(error=SECRET))
    assert status == 500
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-request-id"].decode() in body["body"].decode()
    assert b"secret" not in body["body"]
    [fault] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert fault.exc_info
    assert fault.exc_info[1] is SECRET
    assert len(request_lines(caplog)) == 1


async def test_an_error_that_a_layer_means_is_told() -> None:
    status, [_, body] = await call(layered(error=BadRequest("Not like this.")))
    assert status == 400
    assert b"Not like this." in body["body"]


async def test_an_answer_that_has_begun_is_broken_off_and_nothing_raised_at_the_server() -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    part = {"type": "http.response.body", "body": b"half", "more_body": True}
    status, sent = await call(layered(start, part, error=SECRET))
    assert (status, len(sent)) == (200, 2)
    assert sent[-1]["more_body"]


@pytest.mark.parametrize(
    ("before", "extensions", "last"),
    [
        ((), {"websocket.http.response": {}}, "websocket.http.response.body"),
        ((), {}, "websocket.close"),
        (({"type": "websocket.accept"},), {"websocket.http.response": {}}, "websocket.close"),
    ],
)
async def test_a_websocket_that_fails_is_refused_or_closed(
    before: tuple[Message, ...], extensions: Message, last: str
) -> None:
    _, sent = await call(layered(*before, error=SECRET), type="websocket", scheme="ws", extensions=extensions)
    assert sent[-1]["type"] == last
    assert sent[-1].get("code") == (1011 if before else None)


async def test_a_cancellation_passes() -> None:
    with pytest.raises(asyncio.CancelledError):
        await call(layered(error=asyncio.CancelledError()))


async def test_a_server_that_takes_no_answer_hears_of_no_fault() -> None:
    async def refuse(message: Message) -> None:
        raise RuntimeError("the stream is gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app: Any = layered(error=SECRET)
    await app(dict(SCOPE), receive, refuse)


async def test_a_method_as_long_as_a_head_filled_the_log(app: Quart, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quart_async_api")
    answer = await ask(app, "A" * 10_000, "/users")
    assert answer.status == 405
    assert "A" * 32 in caplog.text
    assert len(caplog.text) < 1000
