"""/console/jobs: the live list of jobs, its filters, and changes of one job or of several."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.audit import record
from ..access.caller import Scope
from ..errors import InvalidInput, ServiceError
from ..http.contract.needs import needs
from ..http.guards.access import caller, state
from ..http.job_ids import know_ids
from ..http.paging import decode_job_cursor, encode_job_cursor
from ..http.parts import parts
from ..http.routes.jobs import JobsPage
from ..jobs.states import JobRecord, Status
from ..jobs.tally import tally
from ..jobs.transitions import CancelAnswer
from ..moments import moment, timestamp
from ..stored import shown_problem
from ..validation import checked
from .durations import ago, spent
from .notices import notice

blueprint = Blueprint("job_pages", __name__)
blueprint.before_request(know_ids)

LIST = "/console/jobs"
SIZES = (25, 50, 100)
_FILTERS = ("status", "task", "created_after", "created_before")
_PREVIEW = 120  # characters of arguments and of errors in a row
_LOCAL = len("2026-11-22T05:10")  # what a browser sends for a date and time; seconds may follow


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
        "" if job.args == "{}" else _cut(job.args) if job.args else "(long arguments)",
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


@blueprint.get(LIST)
@needs(Scope.READ)
async def jobs() -> ResponseReturnValue:
    if wanted := request.args.get("id", "").strip():
        return redirect(f"{LIST}/{quote(wanted, safe='')}", 303)
    sent = {name: value for name in (*_FILTERS, "limit", "cursor") if (value := request.args.get(name, "").strip())}
    wrong: dict[str, str] = {}
    found: list[JobRecord] = []
    query = JobsPage()
    try:
        query = checked(JobsPage, sent | {name: _in_full(sent[name]) for name in _FILTERS[2:] if name in sent})
        before = decode_job_cursor(query.cursor, filters_of(query)) if query.cursor else None
        found = await parts().store.reading.page(query.limit + 1, caller().sees, before=before, **filters_of(query))  # type: ignore[arg-type]
    except InvalidInput as error:
        wrong = {each.pointer.removeprefix("#/"): each.detail for each in error.errors}
    page, names, now = found[: query.limit], await owners(), parts().clock()
    filters = {name: sent[name] for name in (*_FILTERS, "limit") if name in sent}
    cursor = encode_job_cursor(page[-1].id, filters_of(query)) if len(found) > query.limit else None
    in_api = {name: str(value) for name, value in filters_of(query).items() if value}
    content = await render_template(
        "jobs.html",
        rows=[row_of(job, now, names) for job in page],
        counts=await tally(parts().database, caller().sees),
        statuses=[status.value for status in Status],
        filters=filters,
        wrong=wrong,
        sizes=SIZES,
        size=query.limit,
        tasks=sorted(parts().tasks),
        is_first=query.cursor is None,
        older=cursor and _address(filters | {"cursor": cursor}),
        address=_address,
        json=f"/jobs?{urlencode(in_api | {'limit': str(query.limit)})}",
        shows_owner=bool(names),
        notice=notice(),
    )
    return sendable(content), 422 if wrong else 200


def sendable(page: str) -> str:
    """Return the text of a page without halves of surrogate pairs, which a stored text can have."""
    return page.encode(errors="replace").decode()


def filters_of(query: JobsPage) -> dict[str, str | None]:
    """Return the filters as the API's cursor and `Reading.page` take them."""
    after, before = query.created_after, query.created_before
    return {
        "status": query.status,
        "task": query.task,
        "created_after": timestamp(after) if after else None,
        "created_before": timestamp(before) if before else None,
    }


def _in_full(text: str) -> str:
    """Return what a browser's field for date and time sends as the API's form of it, in UTC."""
    text = f"{text}:00" if len(text) == _LOCAL else text
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if local.tzinfo else timestamp(local.replace(tzinfo=UTC))


def _address(filters: dict[str, str]) -> str:
    return f"{LIST}?{urlencode(filters)}" if filters else LIST


def _cut(text: str) -> str:
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"


async def _cancel(job_id: str) -> str:
    answer, _ = await parts().submissions.cancel(job_id, caller())
    return "cancelled" if answer is CancelAnswer.CANCELLED else "cancelling"


async def _retry(job_id: str) -> str:
    return (await parts().submissions.retry(job_id, caller())).id


@blueprint.post(f"{LIST}/cancel")
@needs(Scope.WRITE, audited="job.cancel")
async def cancel_chosen() -> ResponseReturnValue:
    return await _change_chosen("cancel", _cancel)


@blueprint.post(f"{LIST}/retry")
@needs(Scope.WRITE, audited="job.retry")
async def retry_chosen() -> ResponseReturnValue:
    return await _change_chosen("retry", _retry)


async def _change_chosen(name: str, change: Callable[[str], Awaitable[str]]) -> ResponseReturnValue:
    """Change each of the jobs that are marked in the list, and skip those whose state has changed meanwhile."""
    form = await request.form
    done = 0
    chosen = form.getlist("job")[: SIZES[-1]]
    for job_id in chosen:
        try:
            await change(job_id)
        except ServiceError:
            continue
        done += 1
        record(f"job.{name}", caller(), job_id, state().trace.request_id)
    state().changes = False  # the audit log has a line for each job
    said = {"notice": name, "done": str(done), "skipped": str(len(chosen) - done)}
    return redirect(_back(form.get("list", ""), said), 303)


@blueprint.post(f"{LIST}/<job_id>/cancel")
@needs(Scope.WRITE, audited="job.cancel")
async def cancel(job_id: str) -> ResponseReturnValue:
    said = {"notice": await _cancel(job_id)}
    listed = (await request.form).get("list")
    return redirect(f"{LIST}/{job_id}?{urlencode(said)}" if listed is None else _back(listed, said), 303)


@blueprint.post(f"{LIST}/<job_id>/retry")
@needs(Scope.WRITE, audited="job.retry")
async def retry(job_id: str) -> ResponseReturnValue:
    """Leads to the new job, or back to the list."""
    new = await _retry(job_id)
    listed = (await request.form).get("list")
    if listed is None:
        return redirect(f"{LIST}/{new}?notice=retried", 303)
    return redirect(_back(listed, {"notice": "retry", "done": "1"}), 303)


def _back(listed: str, said: dict[str, str]) -> str:
    """Return the address of the list with the filters that it had."""
    kept = {name: value for name, value in parse_qsl(listed) if name in (*_FILTERS, "limit", "cursor")}
    return _address(kept | said)
