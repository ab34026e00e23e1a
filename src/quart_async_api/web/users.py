"""The pages of users: list, add, change, delete."""

from typing import Annotated

from pydantic import BaseModel, Field
from quart import Blueprint, redirect, render_template
from quart.typing import ResponseReturnValue

from ..errors import EmailTaken, FieldError, InvalidInput, KeyTaken, QuotaExceeded, StaleVersion
from ..http.contract.inputs import read_query
from ..http.contract.needs import Scope, needs
from ..http.delivery.idempotency import kept
from ..http.guards.access import state
from ..http.paging import PageSize, decode_cursor, encode_cursor
from ..http.parts import parts
from ..http.routes.users import NewUser, as_id
from ..jobs.usage import Quota
from ..services.idempotency import Key, Reply
from ..services.users import UserReply
from .notices import notice
from .once import form_key
from .posted import Form, as_model, posted

blueprint = Blueprint("user_pages", __name__, url_prefix="/console/users")

_FIELDS = ("name", "email")


class _Page(BaseModel):
    cursor: str | None = None
    limit: Annotated[int, PageSize(1000)] = Field(default=50, ge=1)


@blueprint.get("")
@needs(Scope.READ)
async def users() -> str:
    return await _list(Form(dict.fromkeys(_FIELDS, "")))


async def _list(form: Form) -> str:
    page = read_query(_Page)
    after = decode_cursor(page.cursor) if page.cursor else 0
    found = await parts().users.page(page.limit + 1, after)
    shown = found[: page.limit]
    return await render_template(
        "users.html",
        users=shown,
        form=form,
        is_first=after == 0,
        limit=page.limit,
        following=encode_cursor(shown[-1].id) if len(found) > page.limit else None,
        notice=notice(),
    )


@blueprint.post("")
@needs(Scope.WRITE, audited="user.create")
async def add() -> ResponseReturnValue:
    form, key = await posted(*_FIELDS), await form_key()
    try:
        new = as_model(NewUser, form)
        if await kept(key) is None:
            await _create(new, key)
    except InvalidInput as error:
        return await _list(form.refused(error)), 422
    except (EmailTaken, KeyTaken) as error:
        if await kept(key) is None:  # else by the first of two clicks
            return await _list(form.with_errors(FieldError("#/email", str(error)))), 409
    except QuotaExceeded as error:
        return await _list(form.with_errors(FieldError("#", str(error)))), 429
    state().changes = state().made is not None
    return redirect("/console/users?notice=added", 303)


async def _create(new: NewUser, key: Key | None) -> None:
    service = parts()
    quota = Quota(size=service.settings.kept_bytes)
    reply = None if key is None else UserReply(key, lambda user: Reply(303, {}, "", None), quota)
    user = await service.users.create(new.name, new.email, most=service.settings.max_users, reply=reply)
    state().made = str(user.id)


@blueprint.get("/<user_id>")
@needs(Scope.READ)
async def user(user_id: str) -> str:
    found = await parts().users.get(as_id(user_id))
    form = Form({"name": found.name, "email": found.email, "version": found.version})
    return await render_template("user.html", id=found.id, title=found.name, form=form)


@blueprint.post("/<user_id>")
@needs(Scope.WRITE, audited="user.update")
async def change(user_id: str) -> ResponseReturnValue:
    """Change the version that the form was made of: who saves after someone else sees the newer values first."""
    form = await posted(*_FIELDS, "version")
    users, known = parts().users, as_id(user_id)
    status, stored = 422, None
    try:
        new = as_model(NewUser, form)
        await users.update(known, name=new.name, email=new.email, expected=form.values["version"].__eq__)
    except InvalidInput as error:
        form = form.refused(error)
    except EmailTaken as error:
        status, form = 409, form.with_errors(FieldError("#/email", str(error)))
    except StaleVersion:
        status, stored = 412, await users.get(known)
        form = Form({**form.values, "version": stored.version})  # saving again is a decision now
    else:
        return redirect("/console/users?notice=saved", 303)
    title = (await users.get(known)).name
    return await render_template("user.html", id=known, title=title, form=form, stored=stored), status


@blueprint.post("/<user_id>/delete")
@needs(Scope.WRITE, audited="user.delete")
async def delete(user_id: str) -> ResponseReturnValue:
    await parts().users.delete(as_id(user_id))
    return redirect("/console/users?notice=deleted", 303)
