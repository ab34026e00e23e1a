"""One HTTP request of Quart's in the task that the server made for it: two messages for a plain answer, no task of its own."""

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

from quart import Request
from quart.asgi import ASGIHTTPConnection, _handle_exception
from quart.wrappers import Response
from quart.wrappers.response import DataBody

from .begun import Begun
from .quart_request import ArrivingBody, ArrivingRequest

if TYPE_CHECKING:
    from quart import Quart

SERVER_CANCELS = "quart_async_api.cancels"  # extension of a server that cancels the task of a client that has left
WATCHED_AFTER = 0.05  # seconds; most handlers have answered by then, and need nobody to watch their client


@lru_cache(maxsize=256)
def _encoded(name: str) -> bytes:
    """Return the name of a field of an answer as ASGI has it."""
    return name.lower().encode()


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
        if self.app.request_class is not ArrivingRequest:
            await super().__call__(receive, send)
            return
        request = ArrivingRequest.of(self.scope, self.app.config, partial(self._send_push_promise, send))
        self._receive, self._request, self._task = receive, request, cast("asyncio.Task[Any]", asyncio.current_task())
        body = cast("ArrivingBody", request.body)
        body.take = self._take
        if SERVER_CANCELS not in (self.scope.get("extensions") or ()):
            self._watch_later()
        try:
            await self.handle_request(request, send)
        except asyncio.CancelledError:
            if not self._has_left or self._task.cancelling() > 1:  # somebody else wants it to end
                raise
        finally:
            body.take = None
            if self._timer is not None:
                self._timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            if self._has_left:
                self._task.uncancel()

    async def handle_request(self, request: Request, send: Any) -> None:
        try:
            response = await self.app.handle_request(request)
        except Exception as error:
            response = await _handle_exception(self.app, error)
        try:
            sending = Begun(self._send_response(send, response))
            if not sending.is_done:
                seconds = self.app.config["RESPONSE_TIMEOUT"]
                if isinstance(response, Response) and response.timeout is not Ellipsis:
                    seconds = response.timeout
                async with asyncio.timeout(seconds):
                    await sending
        except TimeoutError:
            pass

    async def _send_response(self, send: Any, response: Any) -> None:
        body = response.response
        if type(body) is not DataBody:
            await super()._send_response(send, response)
            return
        headers = [(_encoded(name), value.encode()) for name, value in response.headers._list]
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
