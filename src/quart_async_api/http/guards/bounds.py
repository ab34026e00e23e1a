"""How long the head of a request may be, and how many messages of a WebSocket wait."""

import asyncio
from typing import Any

from quart import Quart
from quart.asgi import ASGIWebsocketConnection
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import RequestHeaderFieldsTooLarge, RequestURITooLarge

from ...settings import Settings

_FIELD_SYNTAX = len(": \r\n")
_MESSAGES = 10  # of a WebSocket's client, that wait to be read


def check_head(asked: BaseRequestWebsocket, settings: Settings) -> None:
    """Refuse a head that is too long. Raises RequestURITooLarge, RequestHeaderFieldsTooLarge."""
    scope = asked.scope or {}
    if max(len(scope["query_string"]), len(scope.get("raw_path") or b"")) > settings.max_query_bytes:
        raise RequestURITooLarge(f"The query and the path may be {settings.max_query_bytes} bytes long each.")
    size = sum(len(name) + len(value) + _FIELD_SYNTAX for name, value in scope["headers"])
    if size > settings.max_header_bytes:
        raise RequestHeaderFieldsTooLarge(
            f"The header fields may be {settings.max_header_bytes} bytes long in all; these are {size}."
        )


class BoundedWebsocket(ASGIWebsocketConnection):
    """One whose client is not read any further while it has sent more than is looked at; Quart's own queue takes it all."""

    def __init__(self, app: Quart, scope: Any) -> None:
        super().__init__(app, scope)
        self.queue = asyncio.Queue(_MESSAGES)

    async def handle_messages(self, receive: Any) -> None:
        async def filled() -> Any:
            event = await receive()
            if event["type"] == "websocket.receive" and not event.get("bytes") and event.get("text") is None:
                event = {**event, "text": ""}  # an empty binary message, which Quart cannot tell from none
            return event

        await super().handle_messages(filled)
