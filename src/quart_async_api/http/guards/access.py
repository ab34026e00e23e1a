"""Who sent this request, and what it may do."""

from typing import cast

from quart import g, has_websocket_context, request, websocket
from quart.wrappers import BaseRequestWebsocket

from ...access.admissions import Admission
from ...access.caller import ANYONE, Caller, Scope
from ...errors import InsufficientScope
from ...wire.addresses import is_loopback, network


def asked() -> BaseRequestWebsocket:
    """The request, or the WebSocket's handshake."""
    return websocket if has_websocket_context() else request


def bound_address(asked: BaseRequestWebsocket) -> str | None:
    """The address that the connection came in on; None for a Unix socket."""
    server = (asked.scope or {}).get("server")
    return server[0] if server and server[1] is not None else None


def caller() -> Caller:
    """Who sent the request, or opened the WebSocket, that is being handled."""
    return cast("Caller", g.get("caller", ANYONE))


def new_admission() -> Admission:
    """What this request opens its stream or WebSocket by: the caller's key, or the session that stood for it."""
    return Admission(caller(), g.get("session"))


def keys_are_made() -> bool:
    """Whether the service wants a key, as far as this request has found out."""
    return bool(g.get("keys_made", False))


def is_shared() -> bool:
    """Whether this request's caller may be one of several: a key was made, or others reach the address it came in on."""
    bound = bound_address(asked())
    return keys_are_made() or not (bound is None or is_loopback(bound))


def client_address() -> str:
    """The client's network, as the first trusted proxy saw it; empty over a Unix socket."""
    client = (asked().scope or {}).get("client") or ("",)
    return network(client[0])


def counted_as() -> str:
    """The caller as limits count it: its key, else its address."""
    key = caller().key_id
    return f"address {client_address()}" if key is None else f"key {key}"


def require(scope: Scope) -> None:
    """Raises InsufficientScope. What more than `read` is asked for is a change, which the audit log tells of."""
    if scope is not Scope.READ:
        g.changes = True
    if not caller().may(scope):
        g.challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise InsufficientScope(f"this wants a key with the scope {scope}")
