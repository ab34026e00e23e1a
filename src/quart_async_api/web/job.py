"""/console/jobs/{id}: the page of one job."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.caller import Scope
from ..errors import Unreadable
from ..http.contract.needs import needs
from ..http.guards.access import caller
from ..http.job_ids import know_ids
from ..http.parts import parts
from ..jobs.history import Line
from ..jobs.states import JobRecord, Part, Status
from ..stored import shown_problem
from .job_filters import LIST
from .jobs import may_change, owners, sendable, times
from .json_text import JsonText, json_text
from .notices import notice
from .timeline import chart

blueprint = Blueprint("job_page", __name__)
blueprint.before_request(know_ids)

EVENTS = 100  # shown unless all are asked for, the newest of them in so many bytes:
EVENTS_BYTES = 12_000
LINE = 500  # characters of one
CALLBACKS = 5  # the newest
ATTEMPTS = 5  # the newest
RETRIES = 10  # newest jobs that this one was retried as
_MARKUP = 150  # bytes around the text of an event


@blueprint.get(f"{LIST}/<job_id>")
@needs(Scope.READ)
async def job(job_id: str) -> ResponseReturnValue:
    service, asks = parts(), caller()
    store, now = service.store, service.clock()
    found = await store.reading.get(job_id, asks.sees)
    attempts = await store.reading.attempts(job_id, tracebacks=asks.may(Scope.ADMIN))
    whole = request.args.get("events") == "all"
    after = 0 if whole else max(0, found.last_event - EVENTS)
    lines = await store.history.lines(job_id, after, service.settings.job_max_events + EVENTS)
    texts = [(line, _text(line, whole)) for line in lines]
    shown = texts if whole else _newest(texts)
    deliveries = await service.callbacks.of_job(job_id, asks)
    names = await owners()
    waited, ran = times(found, now)
    can_cancel, can_retry = may_change(found)
    is_over = found.status.is_terminal
    live = "" if is_over else f"/jobs/{job_id}/events 2"
    page = await render_template(
        "job.html",
        job=found,
        live="2" if is_over and any(each["status"] == "pending" for each in deliveries) else live,
        is_over=is_over,
        is_known=found.task in service.tasks,
        is_paused=found.task in store.pauses.names,
        why=_why_it_waits(found),
        retries=await store.reading.page(RETRIES, asks.sees, retry_of=job_id),
        waited=waited,
        ran=ran,
        can_cancel=can_cancel,
        can_retry=can_retry,
        shows_owner=bool(names),
        owner=names.get(found.owner, found.owner) if found.owner else None,
        progress=_part(found, "progress") if found.progress else None,
        problem=shown_problem(found.error, f"the error of job {job_id}"),
        args=_json(found, "args"),
        result=_json(found, "result") if found.status is Status.SUCCEEDED else None,
        chart=chart(found, attempts, now),
        attempts=attempts,
        lines=[{"number": line.number, "name": line.name, "at": line.at, "text": text} for line, text in shown],
        left_out=after + len(texts) - len(shown),
        deliveries=deliveries,
        most_callbacks=CALLBACKS,
        most_attempts=ATTEMPTS,
        trace=found.traceparent[3:35] if found.traceparent else None,
        notice=notice(),
    )
    return sendable(page)


def _why_it_waits(found: JobRecord) -> str | None:
    if found.status is not Status.QUEUED:
        return None
    if found.task not in parts().tasks:
        return "This service has no task of this name. The job waits for a process that has it."
    if found.task in parts().store.pauses.names:
        return "The task is paused. Its jobs stay queued until an admin resumes it."
    if found.stage == "held":
        return f"At most {found.slot_limit} such jobs run at once. This one waits for the end of another."
    if found.stage == "delayed":
        return "It waits for its time, which is given below as “Not before”."
    return "It waits for a worker that is free."


def _part(found: JobRecord, name: Part) -> Any:
    try:
        return found.part(name)
    except Unreadable:
        return None


def _json(found: JobRecord, name: Part) -> JsonText | None:
    """Return a part of the job as JSON text; None if it cannot be read."""
    try:
        return json_text(found.part(name))
    except Unreadable:
        return None


def _newest(texts: list[tuple[Line, str]]) -> list[tuple[Line, str]]:
    """Return the last events that fit into the page."""
    bytes_to = accumulate(len(text.encode(errors="replace")) + _MARKUP for _, text in reversed(texts))
    number = sum(size <= EVENTS_BYTES for size in bytes_to)
    return texts[len(texts) - number :]


def _text(line: Line, whole: bool) -> str:
    """Return an event in words."""
    text = _words(line.name, line.data)
    if whole or len(text) <= LINE:
        return text
    return f"{text[:LINE]}… ({len(text):,} characters)"


def _words(name: str, data: Mapping[str, Any]) -> str:
    if name == "log":
        return str(data.get("text", ""))
    if name == "progress":
        total, message = data.get("total"), data.get("message")
        counted = f"{data.get('current')}" if total is None else f"{data.get('current')} of {total}"
        return f"{counted}: {message}" if message else counted
    error = data.get("error") or {}
    said = f"{error.get('title')}: {error.get('detail')}" if error else ""
    return f"attempt {data.get('attempt')}: {said}" if name == "retry" else said


@blueprint.post(f"{LIST}/<job_id>/callbacks/<message_id>/replay")
@needs(Scope.WRITE, audited="callback.replay")
async def replay(job_id: str, message_id: str) -> ResponseReturnValue:
    await parts().callbacks.replay(job_id, message_id, caller())
    return redirect(f"{LIST}/{job_id}?notice=replayed#callbacks", 303)
