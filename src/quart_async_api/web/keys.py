"""The page of API keys, for admins: list, create, revoke."""

from quart import Blueprint, make_response, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.keys import DEFAULT_SCOPES, Key
from ..errors import FieldError, InvalidInput
from ..http.contract.needs import Scope, needs
from ..http.guards.access import caller, state
from ..http.parts import parts
from ..moments import duration
from ..services.idempotency import Reply, remember
from ..services.revocation import Revocation
from .notices import notice
from .once import form_key
from .posted import Form, posted

blueprint = Blueprint("key_pages", __name__, url_prefix="/console/keys")

_FIELDS = ("name", "expires")
_SCOPES = {
    Scope.READ: "Read users, and the key's own jobs",
    Scope.WRITE: "Start and cancel jobs, change users",
    Scope.METRICS: "Read /metrics, nothing else",
    Scope.ADMIN: "Everything, also with the jobs of other keys",
}


@blueprint.get("")
@needs(Scope.ADMIN)
async def keys() -> str:
    return await _page(Form(dict.fromkeys(_FIELDS, "")))


async def _page(form: Form, chosen: frozenset[Scope] = DEFAULT_SCOPES, made: tuple[Key, str] | None = None) -> str:
    service = parts()
    found = await service.keys.all()
    now = service.now()
    return await render_template(
        "keys.html",
        keys=sorted(found, key=lambda key: (not key.is_valid(now), key.created_at)),
        is_valid=lambda key: key.is_valid(now),
        own=caller().key_id,
        scopes=_SCOPES,
        chosen=chosen,
        form=form,
        made=made,
        notice=notice(),
    )


@blueprint.post("")
@needs(Scope.ADMIN, audited="key.create")
async def create() -> ResponseReturnValue:
    """The answer is the only one that shows the key: it is no redirect, and is not stored."""
    form = await posted(*_FIELDS)
    sent = (await request.form).getlist("scope")
    chosen = frozenset(scope for scope in Scope if scope.value in sent)
    service = parts()
    try:
        if not await service.keys.all():  # it would close the service for everyone who is looking at it
            raise InvalidInput(FieldError("#", "Create the first key by `quart-async-api keys create --scope admin`"))
        if not chosen:
            raise InvalidInput(FieldError("#", "Choose at least one scope"))
        if not await _is_first():
            raise InvalidInput(FieldError("#", "This form was sent before. If it made a key, the key was shown then"))
        made = await service.keys.create(form.values["name"] or None, chosen, _lifetime(form.values["expires"]))
    except InvalidInput as error:
        return await _page(form.refused(error), chosen), 422
    state().made = made[0].id
    response = await make_response(await _page(Form(dict.fromkeys(_FIELDS, "")), made=made))
    response.headers["Cache-Control"] = "no-store"
    return response


async def _is_first() -> bool:
    """Return whether the form is sent for the first time: its answer, with the key, cannot be given again."""
    key = await form_key()
    now, reply = parts().now(), Reply(200, {}, "", None)
    return key is None or await parts().commits.run(lambda: remember(key, reply, now))


def _lifetime(text: str) -> float | None:
    """Return seconds; None for ever. Raises InvalidInput."""
    if not text.strip():
        return None
    try:
        seconds = duration(text.strip())
    except ValueError as error:
        raise InvalidInput(FieldError("#/expires", f"It {error}")) from None
    if seconds == 0:
        raise InvalidInput(FieldError("#/expires", "It must be more than 0"))
    return seconds


@blueprint.post("/<key_id>/revoke")
@needs(Scope.ADMIN, audited="key.revoke")
async def revoke(key_id: str) -> ResponseReturnValue:
    """`cancel` in the form cancels the key's unfinished jobs as well."""
    service = parts()
    revocation = Revocation(service.keys, service.store, service.settings, service.clock)
    _, left = await revocation.revoke(key_id)
    if "cancel" in await request.form:
        await revocation.cancel(left)
    return redirect("/console/keys?notice=revoked", 303)
