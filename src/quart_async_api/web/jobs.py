"""/console/jobs: the live list of jobs, and its filters."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.caller import Scope
from ..errors import InvalidInput
from ..http.contract.needs import needs
from ..http.guards.access import caller
from ..http.paging import decode_job_cursor, encode_job_cursor
from ..http.parts import parts
from ..http.routes.job_inputs import JobsPage
from ..jobs.ids import ids_from
from ..jobs.states import JobRecord, Status
from ..jobs.tally import tally
from ..moments import moment
from ..stored import shown_problem
from ..validation import checked
from .durations import ago, spent
from .job_filters import LIST, address, given, in_full
from .json_text import visible
from .notices import notice

blueprint = Blueprint("job_pages", __name__)

SIZES = (25, 50, 100)
_PREVIEW = 120  # characters of arguments and of errors in a row


@dataclass(frozen=True, slots=True)
class Row:
    """One job of the list. Texts are cut; times are relative to `now`."""

    job: JobRecord
    args: str
    error: str | None
    progress: dict[str, Any] | None
    age: str
    waited: str | None
    ran: str | None
    owner: str | None
    can_cancel: bool
    can_retry: bool


def row_of(job: JobRecord, now: datetime, owners: dict[str, str]) -> Row:
    error = shown_problem(job.error, f"the error of job {job.id}") if job.error else None
    running = job.status is Status.RUNNING
    waited, ran = times(job, now)
    return Row(
        job,
        "" if job.args == "{}" else _cut(visible(job.args)) if job.args else "(long arguments)",
        _cut(f"{error['title']}: {error['detail']}") if error else None,
        job.document(whole=False).get("progress") if running and job.progress else None,
        ago((now - moment(job.created_at)).total_seconds()),
        waited,
        ran,
        owners.get(job.owner, job.owner) if job.owner else None,
        *may_change(job),
    )


def times(job: JobRecord, now: datetime) -> tuple[str | None, str | None]:
    """Return how long the job waited for its last attempt, and how long that ran; None for what has not begun."""
    due = moment(job.run_at)
    if job.status is Status.QUEUED:
        return (ago if due > now else spent)((now - due).total_seconds()), None
    if job.started_at is None:  # cancelled before its first attempt
        return None, None
    began = moment(job.started_at)
    ended = moment(job.finished_at) if job.finished_at else now
    return spent((began - due).total_seconds()), spent((ended - began).total_seconds())


def may_change(job: JobRecord) -> tuple[bool, bool]:
    """Return whether the caller may cancel the job, and whether it may retry it."""
    writes = caller().may(Scope.WRITE)
    cancels = not job.status.is_terminal and job.cancel_requested_at is None
    retries = job.status in (Status.FAILED, Status.CANCELLED) and job.task in parts().tasks
    return writes and cancels, writes and retries


async def owners() -> dict[str, str]:
    """Return the names of all keys by id, for admins; nothing for others."""
    if not caller().may(Scope.ADMIN):
        return {}
    return {key.id: key.name for key in (await parts().key_ring.keys()).values()}


@blueprint.get("/console", strict_slashes=False)
@needs(Scope.READ)
async def console() -> ResponseReturnValue:
    return redirect(LIST, 303)


@blueprint.get(LIST)
@needs(Scope.READ)
async def jobs() -> ResponseReturnValue:
    sent = given(request.args, "limit", "cursor")
    wrong: dict[str, str] = {}
    if wanted := request.args.get("id", "").strip():
        known, why = await _id_of(wanted)
        if known:
            return redirect(f"{LIST}/{known}", 303)
        wrong = {"id": why}
    elif "" in request.args.values():  # fields of the form that were left empty
        return redirect(address(sent), 303)
    found: list[JobRecord] = []
    query = JobsPage()
    try:
        query = checked(JobsPage, in_full(sent))
        before = decode_job_cursor(query.cursor, query.filters) if query.cursor else None
        found = await parts().store.reading.page(query.limit + 1, caller().sees, before=before, **query.filters)  # type: ignore[arg-type]
    except InvalidInput as error:
        wrong |= {each.pointer.removeprefix("#/"): each.detail for each in error.errors}
    page, names, now = found[: query.limit], await owners(), parts().clock()
    filters = given(sent, "limit")
    cursor = encode_job_cursor(page[-1].id, query.filters) if len(found) > query.limit else None
    in_api = {name: str(value) for name, value in query.filters.items() if value}
    content = await render_template(
        "jobs.html",
        rows=[row_of(job, now, names) for job in page],
        counts=await tally(parts().database, caller().sees),
        statuses=[status.value for status in Status],
        filters=filters,
        wrong=wrong,
        wanted=wanted,
        sizes=SIZES,
        size=query.limit,
        tasks=sorted(parts().tasks),
        is_first=query.cursor is None,
        older=cursor and address(filters | {"cursor": cursor}),
        address=address,
        all_that_match=lambda action: f"{LIST}/bulk?{urlencode({'action': action} | given(sent))}",
        json=f"/jobs?{urlencode(in_api | {'limit': str(query.limit)})}",
        shows_owner=bool(names),
        notice=notice(),
    )
    return sendable(content), 422 if wrong else 200


async def _id_of(typed: str) -> tuple[str, str]:
    """Return the id of the job that is meant by `typed`, an id or the beginning of one; else why there is none."""
    digits = typed.lower().replace("-", "")
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return "", "The id of a job has only the characters 0-9, a-f and -."
    if len(digits) == 32:
        return ids_from(digits)[0], ""  # its page also says that it has expired
    match await parts().store.reading.beginning(digits, caller().sees):
        case [found]:
            return found, ""
        case []:
            return "", "No job has an id that begins like this. The list shows the ends of ids."
    return "", "The ids of several jobs begin like this: type more of it."


def sendable(page: str) -> str:
    """Return the text of a page without halves of surrogate pairs, which a stored text can have."""
    return page.encode(errors="replace").decode()


def _cut(text: str) -> str:
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"
