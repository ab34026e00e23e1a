"""The routes of tasks."""

from functools import lru_cache
from typing import Any

from quart import Blueprint, Response, jsonify

from ...access.caller import Scope
from ...tasks import Task
from ..contract import documents
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..parts import parts

blueprint = Blueprint("tasks", __name__)

TAG = "Jobs"


@blueprint.get("/tasks")
@needs(Scope.READ)
@operation(TAG, "List the tasks", answers={200: Answer("Every task", documents.Tasks)})
async def list_tasks() -> Response:
    """Lists every task with the JSON Schemas of its arguments and result."""
    return jsonify(items=[_described(task) for task in parts().tasks.values()])


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
