"""/console/jobs/bulk: cancel or retry all jobs that match the filters of the list, after a look at their number."""

from collections.abc import Mapping

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.caller import Scope
from ..errors import FieldError, InsufficientScope, InvalidInput
from ..http.contract.needs import needs
from ..http.guards.access import caller
from ..http.parts import parts
from ..jobs.states import JobRecord
from ..services.bulk import OPTIONS, SPARE, Action, JobFilter, bulk_jobs, wanted
from ..services.idempotency import JobReply
from ..validation import checked
from .job_filters import LIST, address, given, in_full
from .once import start_once

blueprint = Blueprint("bulk_pages", __name__)


def _action(sent: Mapping[str, str]) -> Action:
    """Raises InvalidInput: a word that is mistyped must not cancel all jobs."""
    try:
        return Action(sent.get("action", ""))
    except ValueError:
        raise InvalidInput(FieldError("#/action", f"Must be {' or '.join(Action)}")) from None


def _filter(sent: Mapping[str, str]) -> JobFilter:
    """Return the filters of the list as the bulk job takes them. Raises InvalidInput."""
    return checked(JobFilter, in_full(given(sent)), "#/filter")


@blueprint.get(f"{LIST}/bulk")
@needs(Scope.READ)
async def confirm() -> str:
    if not caller().may(Scope.WRITE):  # by `needs`, opening the page would be audited as a change
        raise InsufficientScope("changing jobs needs a key with the scope write")
    action = _action(request.args)
    which = wanted(action, _filter(request.args), caller().sees, parts().now())
    filters = given(request.args)
    return await render_template(
        "bulk.html",
        action=action.value,
        matching=await parts().store.bulk.count(which),
        statuses=which.statuses,
        filters=filters,
        back=address(filters),
    )


@blueprint.post(f"{LIST}/bulk")
@needs(Scope.WRITE, audited="job.bulk")
async def start() -> ResponseReturnValue:
    """Leads to the job that does it."""
    form = await request.form
    action = _action(form)
    chosen = _filter(form)
    wanted(action, chosen, caller().sees, parts().now())
    arguments = bulk_jobs.arguments(action=action, filter=chosen)

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().submissions.submit(bulk_jobs, arguments, OPTIONS, caller=caller(), key=key, spare=SPARE)

    job_id, _ = await start_once(submit)
    return redirect(f"{LIST}/{job_id}?notice=bulk", 303)
