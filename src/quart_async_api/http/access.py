"""Who sent this request."""

from typing import cast

from quart import g

from ..services.access import ANYONE, Caller


def caller() -> Caller:
    """Who sent the request, or opened the WebSocket, that is being handled."""
    return cast("Caller", g.get("caller", ANYONE))
