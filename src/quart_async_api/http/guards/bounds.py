"""Limits on the head of a request, and on the unread messages of a WebSocket."""

import asyncio
from typing import Any

from quart import Quart
from quart.asgi import ASGIWebsocketConnection
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import RequestHeaderFieldsTooLarge, RequestURITooLarge

from ...settings import Settings

_FIELD_SYNTAX = len(": \r\n")
_MESSAGES = 10  # unread messages of a WebSocket's client


def check_head(asked: BaseRequestWebsocket, settings: Settings) -> None:
    """Refuse a head that is too long. Raises RequestURITooLarge, RequestHeaderFieldsTooLarge."""
    scope = asked.scope or {}
    if max(len(scope["query_string"]), len(scope.get("raw_path") or b"")) > settings.max_query_bytes:
        raise RequestURITooLarge(f"The query and the path may each have at most {settings.max_query_bytes} bytes.")
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value) + _FIELD_SYNTAX
    if size > settings.max_header_bytes:
        raise RequestHeaderFieldsTooLarge(
            f"The header fields have {size} bytes together; at most {settings.max_header_bytes} are allowed."
        )


class BoundedWebsocket(ASGIWebsocketConnection):
    """A WebSocket that stops reading while ten messages are unread. Quart's own queue has no limit."""

    def __init__(self, app: Quart, scope: Any) -> None:
        super().__init__(app, scope)
        self.queue = asyncio.Queue(_MESSAGES)

    async def handle_messages(self, receive: Any) -> None:
        async def filled() -> Any:
            event = await receive()
            if event["type"] == "websocket.receive" and not event.get("bytes") and event.get("text") is None:
                event = {**event, "text": ""}  # an empty binary message: Quart would treat it as absent
            return event

        await super().handle_messages(filled)
