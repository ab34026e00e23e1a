"""Who sent this request, and what it may do."""

from quart import has_websocket_context, request, websocket
from quart.wrappers import BaseRequestWebsocket

from ...access.admissions import Admission
from ...access.caller import Caller, Scope
from ...errors import InsufficientScope
from ...wire.addresses import is_loopback, network
from ...wire.request_state import RequestState, state_of


def asked() -> BaseRequestWebsocket:
    """The request, or the WebSocket's handshake."""
    return websocket if has_websocket_context() else request


def state() -> RequestState:
    """The state of the request, or the WebSocket, that is being handled."""
    return state_of(asked().scope)


def caller() -> Caller:
    """Who sent the request, or opened the WebSocket, that is being handled."""
    return state().caller


def new_admission() -> Admission:
    """What this request opens its stream or WebSocket by: the caller's key, or the session that stood for it."""
    opened = state()
    return Admission(opened.caller, opened.session)


def require(scope: Scope) -> None:
    """Check that the caller of this request has `scope`. Raises InsufficientScope."""
    check_scope(state(), scope)


def check_scope(state: RequestState, scope: Scope) -> None:
    """Raises InsufficientScope. Requests that need more than `read` are audited."""
    if scope is not Scope.READ:
        state.changes = True
    if not state.caller.may(scope):
        state.challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise InsufficientScope(f"this wants a key with the scope {scope}")


def bound_address(asked: BaseRequestWebsocket) -> str | None:
    """The address that the connection came in on; None for a Unix socket."""
    server = (asked.scope or {}).get("server")
    return server[0] if server and server[1] is not None else None


def is_shared(asked: BaseRequestWebsocket, state: RequestState) -> bool:
    """Whether this request's caller may be one of several: a key was made, or others reach the address it came in on."""
    bound = bound_address(asked)
    return state.keys_are_made or not (bound is None or is_loopback(bound))


def client_address(asked: BaseRequestWebsocket) -> str:
    """The client's network, as the first trusted proxy saw it; empty over a Unix socket."""
    client = (asked.scope or {}).get("client") or ("",)
    return network(client[0])


def counted_as(asked: BaseRequestWebsocket, state: RequestState) -> str:
    """The caller as limits count it: its key, else its address."""
    key = state.caller.key_id
    return f"address {client_address(asked)}" if key is None else f"key {key}"
