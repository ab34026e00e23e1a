"""The routes of tasks: list, pause, resume, and start a scheduled one now."""

from functools import lru_cache
from typing import Any

from quart import Blueprint, Response, jsonify

from ...access.caller import Scope
from ...errors import TaskNotFound, TaskUnscheduled
from ...jobs.states import JobRecord
from ...services.idempotency import JobReply
from ...services.tasks import OperatedTask
from ...tasks import Task
from ..contract import documents
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..delivery.delivers import HEADERS, REFUSALS
from ..delivery.delivery import Choice, Delivery, deliver_job
from ..delivery.idempotency import HEADER
from ..delivery.prefer import Preferences
from ..parts import parts

blueprint = Blueprint("tasks", __name__)

TAG = "Operations"
_TASK = Answer("The task", documents.TaskDescription)
_STARTED = Answer("The job", documents.Job, headers={"Location": "Its address", "Retry-After": "Seconds"})


@blueprint.get("/tasks")
@needs(Scope.READ)
@operation("Jobs", "List the tasks", answers={200: Answer("Every task", documents.Tasks)})
async def list_tasks() -> Response:
    """Lists every task with the JSON Schemas of its arguments and result. `paused_at` is when it was paused, `next_run_at` and
    `last_run_at` are of its schedule. A paused task has no next run."""
    return jsonify(items=[_document(task) for task in await parts().task_operations.all()])


@blueprint.post("/tasks/<path:name>/pause")
@needs(Scope.ADMIN, audited="task.pause")
@operation(TAG, "Pause a task", answers={200: _TASK}, errors=(TaskNotFound,))
async def pause(name: str) -> Response:
    """Within a second, no process starts a job of the task, and its schedule does not fire. New jobs are accepted and stay
    queued. Jobs that run go on. A call that waits for the task gets 503."""
    return jsonify(_document(await parts().task_operations.pause(name)))


@blueprint.post("/tasks/<path:name>/resume")
@needs(Scope.ADMIN, audited="task.resume")
@operation(TAG, "Resume a task", answers={200: _TASK}, errors=(TaskNotFound,))
async def resume(name: str) -> Response:
    """The queued jobs of the task run again. Ticks that its schedule has missed do not fire."""
    return jsonify(_document(await parts().task_operations.resume(name)))


@blueprint.post("/tasks/<path:name>/run")
@needs(Scope.ADMIN, audited="task.run")
@operation(
    TAG,
    "Start a scheduled task now",
    answers={202: _STARTED},
    headers={HEADER: HEADERS[HEADER]},
    errors=(TaskNotFound, TaskUnscheduled, *REFUSALS),
)
async def run(name: str) -> Response:
    """Submits a job as the schedule does, with the default arguments and without an owner. If the task is paused, the job
    stays queued."""

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().task_operations.run(name, key=key)

    return await deliver_job(submit, Choice(Delivery.COME_BACK, Preferences()))


def _document(operated: OperatedTask) -> dict[str, Any]:
    return _described(operated.task) | {
        "paused_at": operated.paused_at,
        "next_run_at": operated.next_run_at,
        "last_run_at": operated.last_run_at,
    }


@lru_cache(maxsize=1024)
def _described(task: Task) -> dict[str, Any]:
    """Return the description of a task. Its schemas take pydantic a millisecond."""
    return {
        "name": task.name,
        "summary": task.summary,
        "args_schema": task.arguments.model_json_schema(),
        "result_schema": task.result.json_schema(mode="serialization"),
        "retries": task.retries,
        "backoff": task.backoff,
        "timeout": task.timeout,
        "run_in": task.run_in,
        "schedule": task.schedule,
        "queue": task.queue,
    }
