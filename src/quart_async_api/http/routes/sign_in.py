"""Sign-in for browsers, which turns a key into a session cookie; tickets for clients without header and cookie."""

import re
from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint, Response, jsonify, redirect, render_template, request
from quart.typing import ResponseReturnValue
from typing_extensions import TypedDict
from werkzeug.exceptions import RequestEntityTooLarge

from ...access.caller import Scope
from ...access.keys import is_mistyped
from ...access.tokens import TICKET_SECONDS, Kind
from ...errors import Unauthorized
from ..contract.inputs import read_body
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..guards.access import caller, state
from ..guards.authentication import MISTYPED, session_cookie, sessions
from ..parts import parts

blueprint = Blueprint("sign_in", __name__)

TAG = "Access"
# A path of this service, without forms that a browser reads as the address of another host.
_LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
_LONGEST_BODY = 4096
_FORM_REFUSED = "you are not signed in, and the form was not accepted: sign in, then send it again"


class Credentials(BaseModel):
    key: str = Field(max_length=200, description="An API key")


class Ticket(TypedDict):
    ticket: Annotated[str, Field(examples=["1pTgTLWy0LMnxEY0kTY8-i_VDCkG5_X1Cz0VkwIwVOs"])]
    expires_at: Annotated[str, Field(examples=["2026-11-21T07:32:57.000000Z"])]


@blueprint.app_context_processor
async def _shared() -> dict[str, object]:
    return {"caller": caller()}


def _next() -> str:
    """Return the path to go to after signing in; `/` unless it is a path of this service."""
    wanted = request.args.get("next", "/")
    return wanted if _LOCAL.fullmatch(wanted) else "/"


async def _page(problem: str | None = None) -> str:
    return await render_template("sign_in.html", problem=problem, next=_next(), needed=state().keys_are_made)


@blueprint.get("/sign-in")
@needs(Scope.READ, signs_in=True)
async def sign_in_page() -> str:
    """Works without scripts. `next` in the query is the path of this service to go to afterwards.

    `refused=form` says that a form was sent without a session.
    """
    return await _page(_FORM_REFUSED if request.args.get("refused") == "form" else None)


@blueprint.post("/sign-in")
@needs("any", signs_in=True, audited="session.create")
async def sign_in() -> ResponseReturnValue:
    """Takes `key` as a form field or JSON member. Sets a session cookie, valid for `QAA_SESSION_TTL`."""
    service = parts()
    if len(await request.get_data()) > _LONGEST_BODY:  # anyone can send one, without a key
        raise RequestEntityTooLarge(f"The body may have at most {_LONGEST_BODY} bytes here.")
    sent = (await read_body(Credentials)).key if request.is_json else (await request.form).get("key", "")
    key = sent.strip()
    found = None if is_mistyped(key) else service.key_ring.caller(await service.key_ring.keys(), key)
    if found is None or found.key_id is None:
        state().challenge = "Bearer"
        problem = MISTYPED if is_mistyped(key) else "the key is unknown, revoked or expired"
        if request.is_json:
            raise Unauthorized(problem)
        return await _page(problem), 401
    state().caller = found
    lifetime = service.settings.session_ttl
    session, _ = await service.access_tokens.issue(Kind.SESSION, found.key_id, lifetime)
    response = redirect(_next(), 303)
    response.set_cookie(
        session_cookie(request),
        session,
        max_age=int(lifetime),
        httponly=True,
        samesite="Strict",
        path="/",
        secure=request.is_secure,
    )
    return response


@blueprint.post("/sign-out")
@needs("any", audited="session.end")
async def sign_out() -> ResponseReturnValue:
    """Ends the session of the cookie."""
    await parts().access_tokens.end(sessions(request))
    response = redirect("/sign-in", 303)
    # Pages of this key, and the calls that it made in the console, are not for who comes next.
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    response.delete_cookie(
        session_cookie(request), path="/", httponly=True, samesite="Strict", secure=request.is_secure
    )
    return response


@blueprint.post("/tickets")
@needs("any", audited="ticket.create")
@operation(TAG, "Get a ticket", answers={201: Answer("The ticket", Ticket)})
async def new_ticket() -> ResponseReturnValue:
    """Valid once, for 30 seconds, as `?ticket=…` of an event stream or WebSocket, where a browser cannot send a key."""
    ticket, expires_at = await parts().access_tokens.issue(
        Kind.TICKET, caller().key_id or "", TICKET_SECONDS, state().session
    )
    response: Response = jsonify(ticket=ticket, expires_at=expires_at)
    response.headers["Cache-Control"] = "no-store"
    return response, 201
