"""/console/jobs/{id}/again: run a job that has ended again, with arguments of a form made from the task's schema."""

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.caller import Scope
from ..errors import InsufficientScope, InvalidInput, JobEnded, Unreadable
from ..http.contract.needs import needs
from ..http.guards.access import caller
from ..http.job_ids import know_ids
from ..http.parts import parts
from ..jobs.states import JobRecord
from ..services.idempotency import JobReply
from .forms import Field, arguments_of, as_sent, fields_of, with_errors
from .job_filters import LIST
from .jobs import sendable
from .once import start_once

blueprint = Blueprint("run_again", __name__)
blueprint.before_request(know_ids)


async def _form(job_id: str) -> tuple[JobRecord, list[Field]]:
    """Return the job with the form of its arguments. Raises JobNotFound, JobExpired, JobEnded."""
    job = await parts().store.reading.get(job_id, caller().sees)
    if not job.status.is_terminal:
        raise JobEnded(f"only a job that has ended can be run again; this one is {job.status}")
    task = parts().tasks.get(job.task)
    if task is None:
        raise JobEnded(f"this service has no task {job.task!r} any longer")
    try:
        stored = job.part("args")
    except Unreadable:
        stored = {}
    # Stored arguments have the names of the model's fields, sent ones their aliases.
    aliases = {name: field.alias or name for name, field in task.arguments.model_fields.items()}
    values = {aliases.get(name, name): value for name, value in stored.items()}
    return job, fields_of(task.arguments.model_json_schema(), values)


async def _page(job: JobRecord, fields: list[Field], others: list[str]) -> str:
    return sendable(await render_template("run_again.html", job=job, fields=fields, others=others))


@blueprint.get(f"{LIST}/<job_id>/again")
@needs(Scope.READ)
async def form(job_id: str) -> str:
    if not caller().may(Scope.WRITE):  # by `needs`, opening the form would be audited as a change
        raise InsufficientScope("running a job again needs a key with the scope write")
    return await _page(*await _form(job_id), [])


@blueprint.post(f"{LIST}/<job_id>/again")
@needs(Scope.WRITE, audited="job.retry")
async def run_again(job_id: str) -> ResponseReturnValue:
    """Leads to the new job, or shows the form again with what is wrong."""
    job, fields = await _form(job_id)
    fields = as_sent(fields, await request.form)
    arguments, errors = arguments_of(fields)
    try:
        if errors:
            raise InvalidInput(*errors)

        async def submit(key: JobReply | None) -> JobRecord:
            return await parts().submissions.retry(job_id, caller(), args=arguments, key=key)

        new, is_new = await start_once(submit)
    except InvalidInput as error:
        return await _page(job, *with_errors(fields, error.errors)), 422
    return redirect(f"{LIST}/{new}?notice={'retried' if is_new else 'repeated'}", 303)
