"""Cancel or retry jobs: one of the list or of its own page, or those that are selected in the list."""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from ..access.audit import record
from ..access.caller import Scope
from ..errors import JobEnded, ServiceError
from ..http.contract.needs import needs
from ..http.guards.access import caller, state
from ..http.job_ids import know_ids
from ..http.parts import parts
from ..jobs.states import JobRecord, Status
from ..jobs.transitions import CancelAnswer
from ..services.idempotency import JobReply
from .job_filters import LIST, address, given
from .notices import MOST
from .once import start_once

blueprint = Blueprint("job_changes", __name__)
blueprint.before_request(know_ids)


async def _cancel(job_id: str) -> str:
    answer, _ = await parts().submissions.cancel(job_id, caller())
    return "cancelled" if answer is CancelAnswer.CANCELLED else "cancelling"


async def _retry(job_id: str) -> tuple[str, bool]:
    """Return the id of the new job, and whether this form has made it only now."""

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().submissions.retry(job_id, caller(), key=key)

    return await start_once(submit, job_id)


@blueprint.post(f"{LIST}/cancel")
@needs(Scope.WRITE, audited="job.cancel")
async def cancel_chosen() -> ResponseReturnValue:
    async def cancel(job_id: str) -> bool:
        return bool(await _cancel(job_id))

    return await _change_chosen("cancel", cancel)


@blueprint.post(f"{LIST}/retry")
@needs(Scope.WRITE, audited="job.retry")
async def retry_chosen() -> ResponseReturnValue:
    async def retry(job_id: str) -> bool:
        return (await _retry(job_id))[1]

    return await _change_chosen("retry", retry)


async def _change_chosen(name: str, change: Callable[[str], Awaitable[bool]]) -> ResponseReturnValue:
    """Change each of the jobs that are marked in the list, and skip those whose state has changed meanwhile.

    `change` returns whether the form has this effect for the first time.
    """
    form = await request.form
    done = 0
    chosen = form.getlist("job")[:MOST]
    for job_id in chosen:
        try:
            is_new = await change(job_id)
        except ServiceError:
            continue
        done += 1
        if is_new:
            record(f"job.{name}", caller(), job_id, state().trace.request_id)
    state().changes = False  # the audit log has a line for each job
    said = {"notice": name, "done": str(done), "skipped": str(len(chosen) - done)}
    return redirect(_back(form.get("list", ""), said), 303)


@blueprint.post(f"{LIST}/<job_id>/cancel")
@needs(Scope.WRITE, audited="job.cancel")
async def cancel(job_id: str) -> ResponseReturnValue:
    try:
        said = {"notice": await _cancel(job_id)}
    except JobEnded:
        if (await parts().store.reading.get(job_id, caller().sees)).status is not Status.CANCELLED:
            raise
        state().changes = False  # by the first of two clicks
        said = {"notice": "cancelled"}
    listed = (await request.form).get("list")
    return redirect(f"{LIST}/{job_id}?{urlencode(said)}" if listed is None else _back(listed, said), 303)


@blueprint.post(f"{LIST}/<job_id>/retry")
@needs(Scope.WRITE, audited="job.retry")
async def retry(job_id: str) -> ResponseReturnValue:
    """Leads to the new job, or back to the list."""
    new, is_new = await _retry(job_id)
    listed = (await request.form).get("list")
    if listed is None:
        return redirect(f"{LIST}/{new}?notice={'retried' if is_new else 'repeated'}", 303)
    return redirect(_back(listed, {"notice": "retry", "done": "1"}), 303)


def _back(listed: str, said: dict[str, str]) -> str:
    """Return the address of the list with the filters that it had."""
    return address(given(dict(parse_qsl(listed)), "limit", "cursor") | said)
