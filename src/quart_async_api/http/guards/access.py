"""The caller of the current request, and its permissions."""

from quart import has_websocket_context, request, websocket
from quart.wrappers import BaseRequestWebsocket

from ...access.admissions import Admission
from ...access.caller import Caller, Scope
from ...errors import InsufficientScope
from ...wire.addresses import is_loopback, network
from ...wire.request_state import RequestState, state_of


def asked() -> BaseRequestWebsocket:
    """Return the current request, or the WebSocket's handshake."""
    return websocket if has_websocket_context() else request


def state() -> RequestState:
    """Return the state of the current request or WebSocket."""
    return state_of(asked().scope)


def caller() -> Caller:
    """Return the caller of the current request or WebSocket."""
    return state().caller


def new_admission() -> Admission:
    """Return the credential for a stream or WebSocket of this request: the caller's key or session."""
    opened = state()
    return Admission(opened.caller, opened.session)


def require(scope: Scope) -> None:
    """Check that the caller of this request has `scope`. Raises InsufficientScope."""
    check_scope(state(), scope)


def check_scope(state: RequestState, scope: Scope) -> None:
    """Check a scope. Raises InsufficientScope. A request that needs `write`, whatever its method, is audited."""
    if scope is Scope.WRITE:
        state.changes = True
    if not state.caller.may(scope):
        state.challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise InsufficientScope(f"this request needs a key with the scope {scope}")


def bound_address(asked: BaseRequestWebsocket) -> str | None:
    """Return the local address of the connection; None for a Unix socket."""
    server = (asked.scope or {}).get("server")
    return server[0] if server and server[1] is not None else None


def is_shared(asked: BaseRequestWebsocket, state: RequestState) -> bool:
    """Return whether there may be several callers: keys exist, or the local address is not loopback."""
    bound = bound_address(asked)
    return state.keys_are_made or not (bound is None or is_loopback(bound))


def client_address(asked: BaseRequestWebsocket) -> str:
    """Return the client's network, as the first trusted proxy saw it; empty over a Unix socket."""
    client = (asked.scope or {}).get("client") or ("",)
    return network(client[0])


def counted_as(asked: BaseRequestWebsocket, state: RequestState) -> str:
    """Return the caller as limits count it: its key, or its address without a key."""
    key = state.caller.key_id
    return f"address {client_address(asked)}" if key is None else f"key {key}"
