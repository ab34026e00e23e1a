"""/console/tasks: the tasks with their schedules; pause, resume, start now, and a form to submit a job of each."""

from typing import Any
from urllib.parse import quote

from quart import Blueprint, redirect, render_template, request
from quart.typing import ResponseReturnValue

from ..access.caller import Scope
from ..errors import InvalidInput
from ..http.contract.needs import needs
from ..http.guards.access import caller
from ..http.parts import parts
from ..jobs.states import JobRecord
from ..services.idempotency import JobReply
from ..services.tasks import OperatedTask
from ..validation import checked
from .forms import Field, arguments_of, as_sent, fields_of, with_errors
from .job_filters import LIST as JOBS
from .notices import notice
from .once import start_once

blueprint = Blueprint("task_pages", __name__)

LIST = "/console/tasks"


@blueprint.get(LIST)
@needs(Scope.READ)
async def tasks() -> str:
    found = await parts().task_operations.all()
    return await render_template("tasks.html", tasks=sorted(found, key=lambda each: each.task.name), notice=notice())


@blueprint.get(f"{LIST}/<path:name>")
@needs(Scope.READ)
async def task(name: str) -> str:
    operated = await parts().task_operations.get(name)
    return await _page(operated, _fields(operated), [])


def _fields(operated: OperatedTask) -> list[Field]:
    return fields_of(operated.task.arguments.model_json_schema(), {})


async def _page(operated: OperatedTask, fields: list[Field], others: list[str]) -> str:
    found: dict[str, Any] = {"operated": operated, "task": operated.task, "fields": fields, "others": others}
    return await render_template("task.html", **found, notice=notice())


@blueprint.post(f"{LIST}/<path:name>")
@needs(Scope.WRITE, audited="job.submit")
async def submit(name: str) -> ResponseReturnValue:
    """Leads to the new job, or shows the form again with what is wrong."""
    service = parts()
    operated = await service.task_operations.get(name)
    fields = as_sent(_fields(operated), await request.form)
    arguments, errors = arguments_of(fields)
    try:
        if errors:
            raise InvalidInput(*errors)
        ready = checked(operated.task.arguments, arguments, "#/args")

        async def start(key: JobReply | None) -> JobRecord:
            return await service.submissions.submit(operated.task, ready, caller=caller(), key=key)

        job_id, is_new = await start_once(start)
    except InvalidInput as error:
        return await _page(operated, *with_errors(fields, error.errors)), 422
    return redirect(_started(job_id, is_new), 303)


def _started(job_id: str, is_new: bool) -> str:
    return f"/console/jobs/{job_id}{'' if is_new else '?notice=repeated'}"


@blueprint.post(f"{LIST}/<path:name>/pause")
@needs(Scope.ADMIN, audited="task.pause")
async def pause(name: str) -> ResponseReturnValue:
    await parts().task_operations.pause(name)
    return redirect(await _back("paused"), 303)


@blueprint.post(f"{LIST}/<path:name>/resume")
@needs(Scope.ADMIN, audited="task.resume")
async def resume(name: str) -> ResponseReturnValue:
    await parts().task_operations.resume(name)
    return redirect(await _back("resumed"), 303)


async def _back(said: str) -> str:
    """Return the address of the page with the button: of a job, of the task, or the list."""
    form = await request.form
    pages = (JOBS, form.get("job", "")), (LIST, form.get("task", ""))
    page = next((f"{path}/{quote(name, safe='')}" for path, name in pages if name), LIST)
    return f"{page}?notice={said}"


@blueprint.post(f"{LIST}/<path:name>/run")
@needs(Scope.ADMIN, audited="task.run")
async def run(name: str) -> ResponseReturnValue:
    """Leads to the new job."""

    async def start(key: JobReply | None) -> JobRecord:
        return await parts().task_operations.run(name, key=key)

    return redirect(_started(*await start_once(start)), 303)
