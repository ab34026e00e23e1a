"""/console/callbacks: the deliveries of all jobs of the caller, and their replay."""

from typing import Any, get_args
from urllib.parse import parse_qsl, urlencode

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..errors import InvalidInput
from ..http.contract.needs import Scope, needs
from ..http.delivery.callbacks import EventType
from ..http.guards.access import caller
from ..http.job_ids import know_converter, know_ids
from ..http.paging import decode_callback_cursor, encode_callback_cursor
from ..http.parts import parts
from ..http.routes.callbacks import CallbacksQuery
from ..validation import checked
from .notices import notice

blueprint = Blueprint("callback_pages", __name__)
blueprint.record_once(know_converter)
blueprint.before_request(know_ids)

LIST = "/console/callbacks"
_FILTERS = ("status", "origin", "type")
_STATUSES = ("pending", "delivered", "failed")


@blueprint.get(LIST)
@needs(Scope.READ)
async def callbacks() -> ResponseReturnValue:
    sent = {name: value for name in (*_FILTERS, "limit", "cursor") if (value := request.args.get(name, "").strip())}
    if "" in request.args.values():  # fields of the form that were left empty
        return redirect(_address(sent), 303)
    wrong: dict[str, str] = {}
    found: list[tuple[int, dict[str, Any]]] = []
    query = CallbacksQuery()
    try:
        query = checked(CallbacksQuery, sent)
        filters = {name: getattr(query, name) for name in _FILTERS}
        before = decode_callback_cursor(query.cursor, filters) if query.cursor else None
        found = await parts().callbacks.page(query.limit + 1, caller(), before=before, **filters)
    except InvalidInput as error:
        wrong = {each.pointer.removeprefix("#/"): each.detail for each in error.errors}
    filters = {name: getattr(query, name) for name in _FILTERS}
    kept = {name: sent[name] for name in (*_FILTERS, "limit") if name in sent}
    page = found[: query.limit]
    cursor = encode_callback_cursor(page[-1][0], filters) if len(found) > query.limit else None
    content = await render_template(
        "callbacks.html",
        callbacks=[document for _, document in page],
        filters=kept,
        wrong=wrong,
        statuses=_STATUSES,
        types=get_args(EventType.__value__),
        is_first=query.cursor is None,
        older=cursor and _address(kept | {"cursor": cursor}),
        address=_address,
        json=f"/callbacks?{urlencode({name: value for name, value in filters.items() if value})}",
        notice=notice(),
    )
    return content, 422 if wrong else 200


@blueprint.post(f"{LIST}/<job_id>/<message_id>/replay")
@needs(Scope.WRITE, audited="callback.replay")
async def replay(job_id: str, message_id: str) -> ResponseReturnValue:
    """Leads back to the list as it was."""
    await parts().callbacks.replay(job_id, message_id, caller())
    listed = dict(parse_qsl((await request.form).get("list", "")))
    kept = {name: value for name, value in listed.items() if name in (*_FILTERS, "limit", "cursor")}
    return redirect(_address(kept | {"notice": "replayed"}), 303)


def _address(filters: dict[str, str]) -> str:
    return f"{LIST}?{urlencode(filters)}" if filters else LIST
