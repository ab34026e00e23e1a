"""One HTTP request of Quart's in the task that the server made for it: two messages for a plain answer, no task of its own."""

import asyncio
from collections.abc import Generator
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from quart import Request
from quart.asgi import ASGIHTTPConnection, _handle_exception, _normalise_path
from quart.utils import encode_headers
from quart.wrappers import Response
from quart.wrappers.request import Body
from quart.wrappers.response import DataBody
from werkzeug.datastructures import Headers

from .begun import Begun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from quart import Quart

SERVER_CANCELS = "quart_async_api.cancels"  # extension of a server that cancels the task of a client that has left
_LONGEST_KEPT = 64  # bytes of a header field's name: clients choose them, and could fill the memory with long ones
WATCHED_AFTER = 0.05  # seconds; most handlers have answered by then, and need nobody to watch their client


class _Flag:
    """An asyncio.Event that makes one only while something waits: the two of a body were 1.5 kB of each request."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: asyncio.Event | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> bool:
        if not self._is_set:
            self._event = self._event or asyncio.Event()
            await self._event.wait()
        return True


class ArrivingBody(Body):
    """A body that is taken from the server by its reader. Without `take`, something else adds to it, as Quart does."""

    take: "Callable[[], Awaitable[None]] | None" = None

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._complete, self._has_data = cast("asyncio.Event", _Flag()), cast("asyncio.Event", _Flag())

    @property
    def is_complete(self) -> bool:
        return self._complete.is_set()

    @property
    def _is_waited_for(self) -> bool:
        return self.take is not None and not self.is_complete and self._must_raise is None

    def __await__(self) -> Generator[Any, None, Any]:
        while self._is_waited_for and self.take is not None:
            yield from self.take().__await__()
        return (yield from super().__await__())

    async def __anext__(self) -> bytes:
        while self._is_waited_for and self.take is not None and not self._data:
            await self.take()
        return await super().__anext__()


class SentHeaders(Headers):
    """The header fields of a request. Absent ones are found to be so without an exception."""

    @classmethod
    def of(cls, scope: Any) -> Self:
        headers = cls()
        headers._list = [("Remote-Addr", (scope.get("client") or ("<local>",))[0])]
        for name, value in scope["headers"]:
            if b"\n" in value or b"\r" in value:
                raise ValueError("a header value of the request has a line break")
            written = _named(name) if len(name) <= _LONGEST_KEPT else _title(name)
            headers._list.append((written, value.decode("latin1")))
        return headers

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]
        if type is not None:
            return super().get(key, default, type)
        wanted = key.lower()
        for name, value in self._list:
            if name.lower() == wanted:
                return value
        return default


@lru_cache(maxsize=1024)
def _blueprints(endpoint: str) -> list[str]:
    """Return the blueprints of an endpoint, its own first."""
    found = []
    while "." in endpoint:
        endpoint = endpoint.rpartition(".")[0]
        found.append(endpoint)
    return found


def _title(name: bytes) -> str:
    """Return the name of a header field as Quart writes it."""
    return name.decode("latin1").title()


_named = lru_cache(maxsize=1024)(_title)


class ArrivingRequest(Request):
    body_class = ArrivingBody

    @property
    def blueprints(self) -> list[str]:
        return [] if self.url_rule is None else _blueprints(self.url_rule.endpoint)


class Connection(ASGIHTTPConnection):
    """Runs the handler in the task of the server's call.

    A handler that still runs after WATCHED_AFTER has its client watched, by Quart's own reader of messages: it is cancelled
    when the client leaves. Until then only the body is read, when its reader wants it. A server with the extension
    SERVER_CANCELS cancels the task itself.
    """

    _receive: Any
    _request: Request
    _task: asyncio.Task[Any]

    def __init__(self, app: "Quart", scope: Any) -> None:
        super().__init__(app, scope)
        self._has_left = self._is_taking = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __call__(self, receive: Any, send: Any) -> None:
        request = self._create_request_from_scope(send)
        if not isinstance(request.body, ArrivingBody):  # of a request class of the app's own
            await super().__call__(receive, send)
            return
        self._receive, self._request, self._task = receive, request, cast("asyncio.Task[Any]", asyncio.current_task())
        request.body.take = self._take
        if SERVER_CANCELS not in (self.scope.get("extensions") or ()):
            self._watch_later()
        try:
            await self.handle_request(request, send)
        except asyncio.CancelledError:
            if not self._has_left or self._task.cancelling() > 1:  # somebody else wants it to end
                raise
        finally:
            request.body.take = None
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            if self._has_left:
                self._task.uncancel()

    def _create_request_from_scope(self, send: Any) -> Request:
        scope, config = self.scope, self.app.config
        headers = SentHeaders.of(scope)
        if scope["http_version"] < "1.1":
            headers.setdefault("Host", config["SERVER_NAME"] or "")
        path, root_path = scope["path"], scope.get("root_path", "")
        if not path.startswith("/"):
            path = urlsplit(path).path
        return self.app.request_class(
            scope["method"],
            scope["scheme"],
            _normalise_path(path, root_path) if root_path else path,
            scope["query_string"],
            headers,
            root_path,
            scope["http_version"],
            max_content_length=config["MAX_CONTENT_LENGTH"],
            body_timeout=config["BODY_TIMEOUT"],
            send_push_promise=partial(self._send_push_promise, send),
            scope=scope,
        )

    async def handle_request(self, request: Request, send: Any) -> None:
        try:
            response = await self.app.handle_request(request)
        except Exception as error:
            response = await _handle_exception(self.app, error)
        seconds = self.app.config["RESPONSE_TIMEOUT"]
        if isinstance(response, Response) and response.timeout is not Ellipsis:
            seconds = response.timeout
        with suppress(TimeoutError):
            sending = Begun(self._send_response(send, response))
            if not sending.is_done:
                async with asyncio.timeout(seconds):
                    await sending

    async def _send_response(self, send: Any, response: Any) -> None:
        body = response.response
        if type(body) is not DataBody:
            await super()._send_response(send, response)
            return
        headers = encode_headers(response.headers)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body.data[body.begin : body.end], "more_body": False})

    async def _take(self) -> None:
        """Add the next message to the body."""
        self._is_taking = True
        try:
            message = await self._receive()
        finally:
            self._is_taking = False
        if message["type"] == "http.request":
            self._request.body.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._request.body.set_complete()
        elif message["type"] == "http.disconnect":
            self._leave()
            await asyncio.sleep(0)  # here it is cancelled

    def _watch_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER, self._watch)

    def _watch(self) -> None:
        if self._is_taking:  # only one at a time may call `receive`
            self._watch_later()
        else:
            cast("ArrivingBody", self._request.body).take = None
            self._watcher = asyncio.get_running_loop().create_task(self._wait_until_left())

    async def _wait_until_left(self) -> None:
        await self.handle_messages(self._request, self._receive)
        self._leave()

    def _leave(self) -> None:
        self._has_left = True
        self._task.cancel()
