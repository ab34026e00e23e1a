"""Who a request is from: its bearer key (RFC 6750), the cookie of the browser's session, or a one-use ticket."""

from collections.abc import Mapping
from typing import cast

from quart import current_app, g, has_websocket_context, request
from werkzeug.exceptions import Forbidden

from ...access.caller import Caller
from ...access.keys import Key, is_mistyped
from ...errors import Unauthorized
from ...observability.tracing import KEY_ID
from ...wire.addresses import is_loopback
from ..contract.documents import EVENT_STREAM
from ..contract.needs import COOKIE, SIGN_IN, is_open
from ..contract.operations import ATTRIBUTE, Operation
from ..parts import parts
from .access import asked, bound_address, caller

MISTYPED = "the key is mistyped or cut off: its checksum is wrong"


def session_cookie() -> str:
    """The name of the session's cookie. Over https no other host, and no page of plain http, can set it.

    RFC 6265bis section 4.1.3.2.
    """
    return f"__Host-{COOKIE}" if asked().is_secure else COOKIE


def sessions() -> list[str]:
    """The sessions that the request's cookies name: all, since one that another host has set may come first."""
    return asked().cookies.getlist(session_cookie())


async def authenticate() -> None:
    """Find out whose key came with the request, for `caller()`. Raises Unauthorized, Forbidden, DatabaseUnavailable."""
    path = asked().path
    if path != SIGN_IN:
        if is_open(path):
            return
        if is_mistyped(_bearer() or ""):
            raise _refusal(MISTYPED)
    keys = await parts().key_ring.keys()
    if not keys:
        _admit_anyone()
        return
    g.keys_made = True
    if path != SIGN_IN:
        become(await _caller(keys))


async def authenticate_message() -> None:
    """Check that what opened this WebSocket would open it now. Raises Unauthorized, DatabaseUnavailable."""
    service = parts()
    keys = await service.key_ring.keys()
    if not keys:
        return
    session: str | None = g.get("session")
    if session is not None and session not in await service.access_tokens.sessions((session,)):
        raise Unauthorized("the session has ended")
    found = service.key_ring.owner(keys, caller().key_id)
    if found is None:
        raise Unauthorized("the key is no longer good")
    become(found)


def become(caller: Caller) -> None:
    """Have the rest of this request be handled, and logged, as the caller's."""
    g.caller = caller
    cast("dict[str, object]", asked().scope)[KEY_ID] = caller.key_id


def _admit_anyone() -> None:
    bound = bound_address(asked())
    if not parts().settings.allow_anonymous and bound is not None and not is_loopback(bound):
        raise Forbidden(
            "This service is reached at an address that others can reach too, and it is open to anyone: make a key with "
            "`quart-async-api keys create`, or set QAA_ALLOW_ANONYMOUS=1 if that is meant, or bind it to a loopback address."
        )


async def _caller(keys: Mapping[str, Key]) -> Caller:
    service = parts()
    ticket = asked().args.get("ticket")
    if "Authorization" in asked().headers:
        found = service.key_ring.caller(keys, _bearer() or "")
    elif ticket is not None and _takes_tickets():
        g.by_ticket = True
        key_id, g.session = await service.access_tokens.take_ticket(ticket) or (None, None)
        found = service.key_ring.owner(keys, key_id)
    elif tokens := sessions():
        session = await service.access_tokens.session(tokens)
        g.session = None if session is None else session.digest
        found = service.key_ring.owner(keys, None if session is None else session.key_id)
    else:
        g.challenge = "Bearer"
        raise Unauthorized("send Authorization: Bearer and a key")
    if found is None:
        raise _refusal("the key, session or ticket is unknown, or no longer good")
    return found


def _bearer() -> str | None:
    """The token in Authorization (RFC 6750 section 2.1)."""
    scheme, _, token = asked().headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _refusal(detail: str) -> Unauthorized:
    g.refused = True
    g.challenge = 'Bearer error="invalid_token"'
    return Unauthorized(detail)


def _takes_tickets() -> bool:
    """Whether a browser cannot send a header with this: it opens a WebSocket or an event stream."""
    if has_websocket_context():
        return True
    contract: Operation | None = getattr(current_app.view_functions.get(request.endpoint or ""), ATTRIBUTE, None)
    answers = {answer.media_type for answer in contract.answers.get(200, ())} if contract else set()
    wanted = answers == {EVENT_STREAM} or any(kind == EVENT_STREAM for kind, _ in request.accept_mimetypes)
    return request.method == "GET" and EVENT_STREAM in answers and wanted


def is_navigation() -> bool:
    """Whether a browser goes to a page, and so is better sent to sign in than told of a problem."""
    accepted = request.accept_mimetypes
    return (
        "Authorization" not in request.headers
        and accepted["text/html"] > accepted["application/json"]
        and (request.method in ("GET", "HEAD") or request.headers.get("Sec-Fetch-Mode") == "navigate")
    )
