"""The outermost ASGI layer: names each request, and writes its one log line when it is over."""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from .proxies import TrustedProxies
from .request_context import RequestContext, enter

log = logging.getLogger("quart_async_api.request")

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

KEY_ID = "quart_async_api.key"  # of the scope: whose key the request turned out to bring
CLIENT_CLOSED_REQUEST = 499  # nginx's name for a caller that hung up before the answer


class RequestLog:
    """Gives a request its id and trace, the answer its X-Request-ID, and the log its line."""

    def __init__(self, app: AsgiApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = self._proxies.resolve(scope)
        if not scope["path"].startswith("/"):
            scope = _in_origin_form(scope)
        context = RequestContext.of(dict(scope["headers"]))
        enter(context)
        started = time.perf_counter()
        status = CLIENT_CLOSED_REQUEST
        header = (b"x-request-id", context.request_id.encode())

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            elif message["type"] == "websocket.accept":
                status = 101
            with suppress(OSError):  # a client that is cut off for reading nothing; Hypercorn expects resets alone
                await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            log.info(
                "%s %s %d",
                scope.get("method", "WEBSOCKET"),
                scope["path"],
                status,
                extra={
                    "method": scope.get("method", "WEBSOCKET"),
                    "path": scope["path"],
                    "status": status,
                    "ms": round((time.perf_counter() - started) * 1000, 1),
                    "request_id": context.request_id,
                    "trace_id": context.trace_id,
                    "client": (scope.get("client") or ("-",))[0],
                    **({"key": scope[KEY_ID]} if scope.get(KEY_ID) else {}),
                },
            )


def _in_origin_form(scope: dict[str, Any]) -> dict[str, Any]:
    """A target that names its host (RFC 9112 section 3.2.2) goes before the Host header; one that names nothing is the root."""
    try:
        target = urlsplit(scope["path"])
    except ValueError:
        target = urlsplit("")
    if not target.netloc:
        return {**scope, "path": f"/{scope['path']}"}
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    host = (b"host", target.netloc.encode("latin-1", "replace"))
    return {**scope, "path": target.path or "/", "headers": [*others, host]}
