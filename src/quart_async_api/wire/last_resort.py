"""Adds the common fields to a response, and sends a problem if an error has escaped the app."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic_core import to_json
from werkzeug.exceptions import HTTPException

from ..errors import ServiceError
from ..problem_types import BY_STATUS, CONTENT_TYPE, ProblemType, detail_of, document_of, kind_of, members
from ..services.limits import RateLimits
from .addresses import network
from .rate_limit_fields import default_fields, one_too_many

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnects before the response
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_INTERNAL_ERROR = 1011  # RFC 6455 section 7.4.1


class Answer:
    """The response to one request, with the common fields. The log shows `status`."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._headers: tuple[tuple[bytes, bytes], ...] = ((b"x-request-id", request_id.encode()), *_HEADERS)
        self._has_begun = self._has_no_reader = False
        self.status = CLIENT_CLOSED_REQUEST

    def hold_to_https(self, policy: str) -> None:
        """Send this Strict-Transport-Security. Only for https: over http browsers ignore it (RFC 6797 section 8.1)."""
        self._headers += ((b"strict-transport-security", policy.encode()),)

    def until_disconnected(self, receive: Receive) -> Receive:
        """Wrap `receive` to notice that an HTTP client disconnects. `send` then cancels a handler that still sends."""

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._has_no_reader = True
            return message

        return watched

    async def send(self, message: Message) -> None:
        if self._has_no_reader:  # the handler was cancelled but continues: a stream would never end
            raise asyncio.CancelledError
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = message.get("headers", ())
            names = {name for name, _ in headers}  # in lower case, as ASGI has them
            message["headers"] = [*headers, *[header for header in self._headers if header[0] not in names]]
            self.status, self._has_begun = message["status"], True
        elif message["type"] == "websocket.accept":
            self.status, self._has_begun = 101, True
        try:  # noqa: SIM105 - `suppress` makes four calls, for each message
            await self._send(message)
        except OSError:  # a client that was aborted because it reads nothing; Hypercorn expects only resets
            pass

    async def fail(self, scope: dict[str, Any], error: Exception, limits: RateLimits | None) -> None:
        """Send a problem for `error`, which escaped the app. A response that has begun is aborted."""
        kind, detail, others = _told(error)
        if kind.status == 500:
            method = scope.get("method", "WEBSOCKET")
            log.error("%s %s failed outside of its handler", method, scope["path"], exc_info=error)
        if self._has_begun or self._has_no_reader:
            # The server aborts an incomplete HTTP response.
            if scope["type"] == "websocket":
                await self._last({"type": "websocket.close", "code": _INTERNAL_ERROR})
            return
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
        if limits is not None:
            quota = limits.take(f"address {network((scope.get('client') or ('',))[0])}")
            headers |= default_fields(limits.policy, quota)
            if quota.exceeded:
                refused = one_too_many(limits.policy, quota)
                kind, detail, others = _told(refused)
                headers["Retry-After"] = str(refused.retry_after)
        body = to_json(document_of(kind, detail, scope["path"], self._request_id, **others))
        start = {
            "status": kind.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        if scope["type"] == "http":
            await self._last({"type": "http.response.start", **start}, {"type": "http.response.body", "body": body})
        elif "websocket.http.response" in (scope.get("extensions") or {}):
            await self._last(
                {"type": "websocket.http.response.start", **start},
                {"type": "websocket.http.response.body", "body": body},
            )
        else:
            self.status = 403  # servers send this for a close before the acceptance
            await self._last({"type": "websocket.close"})

    async def _last(self, *messages: Message) -> None:
        try:
            for message in messages:
                await self.send(message)
        except Exception as error:  # the server accepts no more data, and closes the connection
            log.warning("the server did not accept a response: %r", error)


def _told(error: Exception) -> tuple[ProblemType, str, dict[str, object]]:
    if isinstance(error, HTTPException) and error.code in BY_STATUS:
        return BY_STATUS[error.code], error.description or BY_STATUS[error.code].explanation, {}
    if isinstance(error, ServiceError):
        return kind_of(error), detail_of(error), members(error)
    return BY_STATUS[500], "The service failed; its log has the reason under this request_id.", {}
