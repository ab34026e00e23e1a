"""A request in the task of the server's call: its messages, its client that leaves, and cancellations of others."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from quart import Request, Response, request

from quart_async_api.http.quart_connection import SERVER_CANCELS
from quart_async_api.http.quart_dispatch import LeanQuart
from quart_async_api.http.quart_request import SentHeaders

Message = dict[str, Any]
View = Callable[[], Awaitable[Any]]
REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
LEFT: Message = {"type": "http.disconnect"}


class Server:
    """Calls an app as an ASGI server does. `left` is set when the client leaves, `watched` when the app waits for that."""

    def __init__(self, view: View, *messages: Message, **extensions: Message) -> None:
        self.app = LeanQuart(__name__)
        self.app.add_url_rule("/", view_func=view, methods=["GET", "POST"])
        self.left = asyncio.Event()
        self.watched = asyncio.Event()
        self.sent: list[Message] = []
        self.received = 0
        self._messages = list(messages or (REQUEST,))
        self._extensions = extensions

    async def _receive(self) -> Message:
        self.received += 1
        if self._messages:
            return self._messages.pop(0)
        self.watched.set()
        await self.left.wait()
        return LEFT

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def call(self) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": self._extensions,
        }
        await self.app.asgi_app(cast("Any", scope), cast("Any", self._receive), cast("Any", self._send))


async def test_long_names_of_header_fields_were_kept_by_the_megabyte() -> None:
    def read(start: int, number: int) -> None:
        for sent in range(start, start + number):
            headers = SentHeaders({"headers": [(b"x%06d" % sent + b"y" * 15_000, b"1")]})
            assert headers.get(f"x{sent:06}" + "y" * 15_000) == "1"

    tracemalloc.start()
    try:
        read(0, 10)
        before, _ = tracemalloc.get_traced_memory()
        read(10, 200)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


async def test_a_plain_answer_takes_two_messages() -> None:
    async def view() -> str:
        return "hello"

    server = Server(view)
    await server.call()
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]
    assert server.sent[1] == {"type": "http.response.body", "body": b"hello", "more_body": False}


class Held:
    """A view that waits, and what became of it."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.begun = asyncio.Event()
        self.was_cancelled = False
        self._swallows = swallows

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.was_cancelled = True
            if not self._swallows:
                raise
        return "late"


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_handler_whose_client_leaves_is_cancelled_and_the_server_learns_nothing_of_it(swallows: bool) -> None:
    held = Held(swallows=swallows)
    server = Server(held.__call__)
    call = asyncio.create_task(server.call())
    await held.begun.wait()
    server.left.set()
    await call
    assert held.was_cancelled
    assert call.cancelling() == 0


@pytest.mark.parametrize("left", [False, True])
async def test_a_cancellation_by_the_server_reaches_the_server(left: bool) -> None:
    held = Held()
    server = Server(held.__call__)
    call = asyncio.create_task(server.call())
    await held.begun.wait()
    if left:  # at the same moment
        await server.watched.wait()
        server.left.set()
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert held.was_cancelled


async def test_a_server_that_cancels_by_itself_is_asked_for_nothing_but_a_body_that_is_read() -> None:
    async def view() -> Any:
        await asyncio.sleep(0.1)  # longer than a handler runs that is not watched
        return (await request.get_data(as_text=True)) or "empty"

    server = Server(view, **{SERVER_CANCELS: {}})
    await server.call()
    assert (server.received, server.sent[1]["body"]) == (1, b"empty")


async def test_a_body_that_is_read_late_arrives_whole() -> None:
    async def view() -> bytes:
        await asyncio.sleep(0.1)  # the watcher has taken it
        return cast("bytes", await request.get_data())

    parts = [{"type": "http.request", "body": part, "more_body": part != b"c"} for part in (b"a", b"b", b"c")]
    server = Server(view, *parts)
    await server.call()
    assert server.sent[1]["body"] == b"abc"


async def test_a_body_is_iterated_over_as_it_arrives() -> None:
    async def view() -> str:
        return ",".join([part.decode() async for part in request.body])

    server = Server(view, *({"type": "http.request", "body": part, "more_body": part != b"b"} for part in (b"a", b"b")))
    await server.call()
    assert server.sent[1]["body"] == b"a,b"


async def test_a_client_that_leaves_within_its_body_ends_the_handler() -> None:
    async def view() -> Any:
        return await request.get_data()

    server = Server(view, {"type": "http.request", "body": b"half", "more_body": True}, LEFT)
    await server.call()
    assert server.sent == []


async def test_a_request_class_of_the_apps_own_is_served_by_quarts_own_connection() -> None:
    class Own(Request):
        pass

    async def view() -> Any:
        return await request.get_data()

    server = Server(view, {"type": "http.request", "body": b"own", "more_body": False})
    server.app.request_class = Own
    await server.call()
    assert b"".join(message.get("body", b"") for message in server.sent) == b"own"


async def test_a_response_that_is_not_taken_in_time_ends_and_its_generator_is_closed() -> None:
    closed = False

    async def view() -> Response:
        async def body() -> AsyncIterator[bytes]:
            nonlocal closed
            try:
                while True:
                    yield b"."
                    await asyncio.sleep(600)
            finally:
                closed = True

        response = Response(body())
        response.timeout = 0.01
        return response

    server = Server(view)
    await server.call()
    assert closed
    assert [message.get("body") for message in server.sent] == [None, b"."]
