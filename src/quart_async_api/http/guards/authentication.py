"""Identifies the caller by a bearer key (RFC 6750), the cookie of a browser's session, or a one-use ticket."""

from collections.abc import Mapping

from quart import Request, Websocket, current_app
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import Forbidden

from ...access.caller import ANYONE, Caller
from ...access.keys import Key, is_mistyped
from ...errors import Unauthorized
from ...service import Service
from ...wire.addresses import is_loopback
from ...wire.request_state import RequestState
from ..contract.documents import EVENT_STREAM
from ..contract.needs import COOKIE, Needs
from ..contract.operations import ATTRIBUTE, Operation
from .access import bound_address

MISTYPED = "the key is mistyped or cut off: its checksum is wrong"


def session_cookie(asked: BaseRequestWebsocket) -> str:
    """The name of the session's cookie. Over https no other host, and no page of plain http, can set it.

    RFC 6265bis section 4.1.3.2.
    """
    return f"__Host-{COOKIE}" if asked.is_secure else COOKIE


def sessions(asked: BaseRequestWebsocket) -> list[str]:
    """Return all sessions in the request's cookies: the first may be from another host."""
    return asked.cookies.getlist(session_cookie(asked))


async def authenticate(service: Service, asked: BaseRequestWebsocket, state: RequestState, needs: Needs) -> None:
    """Identify the caller of the request. Raises Unauthorized, Forbidden, DatabaseUnavailable."""
    if needs.open:
        state.keys_are_made = service.key_ring.has_keys
        return
    if not needs.signs_in and (sent := _bearer(asked)) is not None and is_mistyped(sent):
        raise _refusal(state, MISTYPED)
    keys = await service.key_ring.keys()
    if not keys:
        _admit_anyone(service, asked)
        state.caller = ANYONE
        return
    state.keys_are_made = True
    if not needs.signs_in:
        state.caller = await _caller(service, asked, state, keys)


async def authenticate_message(service: Service, state: RequestState) -> None:
    """Check that the credential of this WebSocket is still valid. Raises Unauthorized, DatabaseUnavailable."""
    keys = await service.key_ring.keys()
    if not keys:
        return
    session = state.session
    if session is not None and session not in await service.access_tokens.sessions((session,)):
        raise Unauthorized("the session has ended")
    found = service.key_ring.owner(keys, state.caller.key_id)
    if found is None:
        raise Unauthorized("the key is no longer valid")
    state.caller = found


def _admit_anyone(service: Service, asked: BaseRequestWebsocket) -> None:
    bound = bound_address(asked)
    if not service.settings.allow_anonymous and bound is not None and not is_loopback(bound):
        raise Forbidden(
            "This service is reached at an address that others can reach too, and it is open to anyone: make a key with "
            "`quart-async-api keys create`, set QAA_ALLOW_ANONYMOUS=1 to allow that, or bind it to a loopback address."
        )


async def _caller(
    service: Service, asked: BaseRequestWebsocket, state: RequestState, keys: Mapping[str, Key]
) -> Caller:
    ticket = asked.args.get("ticket")
    if "Authorization" in asked.headers:
        found = service.key_ring.caller(keys, _bearer(asked) or "")
    elif ticket is not None and _takes_tickets(asked):
        state.by_ticket = True
        key_id, state.session = await service.access_tokens.take_ticket(ticket) or (None, None)
        found = service.key_ring.owner(keys, key_id)
    elif tokens := sessions(asked):
        session = await service.access_tokens.session(tokens)
        state.session = None if session is None else session.digest
        found = service.key_ring.owner(keys, None if session is None else session.key_id)
    else:
        state.challenge = "Bearer"
        raise Unauthorized("send Authorization: Bearer and a key")
    if found is None:
        raise _refusal(state, "the key, session or ticket is unknown or no longer valid")
    return found


def _bearer(asked: BaseRequestWebsocket) -> str | None:
    """Return the token in Authorization (RFC 6750 section 2.1)."""
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _refusal(state: RequestState, detail: str) -> Unauthorized:
    state.refused = True
    state.challenge = 'Bearer error="invalid_token"'
    return Unauthorized(detail)


def _takes_tickets(asked: BaseRequestWebsocket) -> bool:
    """Return whether a browser cannot send headers with this request: a WebSocket or an event stream."""
    if isinstance(asked, Websocket):
        return True
    contract: Operation | None = getattr(current_app.view_functions.get(asked.endpoint or ""), ATTRIBUTE, None)
    answers = {answer.media_type for answer in contract.answers.get(200, ())} if contract else set()
    wanted = answers == {EVENT_STREAM} or any(kind == EVENT_STREAM for kind, _ in asked.accept_mimetypes)
    return asked.method == "GET" and EVENT_STREAM in answers and wanted


def is_navigation(request: Request) -> bool:
    """Return whether a browser navigates to a page: it is then redirected to sign in, instead of getting a problem."""
    accepted = request.accept_mimetypes
    return (
        "Authorization" not in request.headers
        and accepted["text/html"] > accepted["application/json"]
        and (request.method in ("GET", "HEAD") or request.headers.get("Sec-Fetch-Mode") == "navigate")
    )
