"""Who sent this request, and what it may do."""

from typing import cast

from quart import g

from ..errors import InsufficientScope
from ..services.access import ANYONE, Caller, Scope


def caller() -> Caller:
    """Who sent the request, or opened the WebSocket, that is being handled."""
    return cast("Caller", g.get("caller", ANYONE))


def keys_are_made() -> bool:
    """Whether the service wants a key, as far as this request has found out."""
    return bool(g.get("keys_made", False))


def require(scope: Scope) -> None:
    """Raises InsufficientScope. What more than `read` is asked for is a change, which the audit log tells of."""
    if scope is not Scope.READ:
        g.changes = True
    if not caller().may(scope):
        g.challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise InsufficientScope(f"this wants a key with the scope {scope}")
