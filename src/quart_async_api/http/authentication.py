"""Who a request is from: its bearer key (RFC 6750), the cookie of the browser's session, or a one-use ticket."""

from collections.abc import Mapping
from typing import cast

from quart import current_app, g, has_websocket_context, request
from werkzeug.exceptions import Forbidden

from ..errors import Unauthorized
from ..services.access import Caller
from ..services.keys import Key
from .access import asked, bound_address, caller
from .event_stream import MEDIA_TYPE
from .hosts import is_loopback
from .operations import ATTRIBUTE, Operation
from .parts import parts
from .request_context import KEY_ID

COOKIE = "qaa_session"
SIGN_IN = "/sign-in"
_KEYLESS = ("/health/", "/problems/", "/static/")


async def authenticate() -> None:
    """Find out whose key came with the request, for `caller()`. Raises Unauthorized, Forbidden, DatabaseUnavailable."""
    path = asked().path
    if path != SIGN_IN and (is_open(path) or (not has_websocket_context() and request.method == "OPTIONS")):
        return
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
    key_id = caller().key_id if session is None else await service.access_tokens.session(session)
    found = service.key_ring.owner(keys, key_id)
    if found is None:
        raise Unauthorized("the key or session is no longer good")
    become(found)


def is_open(path: str) -> bool:
    """Whether nobody needs a key there."""
    return path == SIGN_IN or path.startswith(_KEYLESS)


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
    authorization = asked().headers.get("Authorization")
    scheme, _, bearer = (authorization or "").partition(" ")
    ticket = asked().args.get("ticket")
    found = None
    if authorization is not None:
        is_sent = scheme.lower() == "bearer"
        found = service.key_ring.caller(keys, bearer.strip()) if is_sent else None
    elif ticket is not None and _takes_tickets():
        is_sent = g.by_ticket = True
        found = service.key_ring.owner(keys, await service.access_tokens.take_ticket(ticket))
    elif (session := asked().cookies.get(COOKIE)) is not None:
        is_sent = True
        found = service.key_ring.owner(keys, await service.access_tokens.session(session))
        g.session = session
    else:
        is_sent = False
    if found is not None:
        return found
    g.challenge = 'Bearer error="invalid_token"' if is_sent else "Bearer"
    raise Unauthorized(
        "the key, session or ticket is unknown, or no longer good"
        if is_sent
        else "send Authorization: Bearer and a key"
    )


def _takes_tickets() -> bool:
    """Whether a browser cannot send a header with this: it opens a WebSocket or an event stream."""
    if has_websocket_context():
        return True
    contract: Operation | None = getattr(current_app.view_functions.get(request.endpoint or ""), ATTRIBUTE, None)
    answers = {answer.media_type for answer in contract.answers.get(200, ())} if contract else set()
    wanted = answers == {MEDIA_TYPE} or any(kind == MEDIA_TYPE for kind, _ in request.accept_mimetypes)
    return request.method == "GET" and MEDIA_TYPE in answers and wanted


def is_navigation() -> bool:
    """Whether a browser goes to a page, and so is better sent to sign in than told of a problem."""
    accepted = request.accept_mimetypes
    return (
        "Authorization" not in request.headers
        and accepted["text/html"] > accepted["application/json"]
        and (request.method in ("GET", "HEAD") or request.headers.get("Sec-Fetch-Mode") == "navigate")
    )
