"""Jobs: started here, and watched."""

from datetime import datetime
from typing import Any

from quart import Blueprint, Response, jsonify, request
from quart.typing import ResponseReturnValue
from typing_extensions import TypedDict

from ... import errors, tutorial
from ..operations import Answer, operation
from ..parts import parts

blueprint = Blueprint("jobs", __name__)

TAG = "Jobs"
# RFC 9745: since when starting work by GET has been deprecated; POST /start-task is its successor.
_DEPRECATED_SINCE = "@1795219200"


class JobDocument(TypedDict):
    id: str
    task: str
    status: str
    progress: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class Started(TypedDict):
    message: str
    job: JobDocument


_STARTED = Answer(
    "The job that was started", Started, headers={"Location": "The job's address", "Retry-After": "Seconds"}
)


@blueprint.post("/start-task")
@operation(TAG, "Start the background task", answers={202: _STARTED}, errors=(errors.ShuttingDown,))
async def start_task() -> ResponseReturnValue:
    """It goes on when its caller is gone."""
    task = tutorial.start_task
    job = parts().jobs.start(task, task.arguments())
    location = f"/jobs/{job.id}"
    headers = {"Location": location, "Retry-After": "1", "Link": f'<{location}>; rel="monitor"'}
    return jsonify({"message": "Task started", "job": job.document()}), 202, headers


@blueprint.get("/start-task")
@operation(
    TAG,
    "Start the background task, as the tutorials do",
    answers={202: _STARTED},
    errors=(errors.ShuttingDown,),
    deprecated=True,
)
async def start_task_by_get() -> ResponseReturnValue:
    """A GET that changes state: kept for the tutorials' clients. HEAD starts nothing."""
    if request.method == "HEAD":
        return Response(status=202, content_type="application/json")
    response, status, headers = await start_task()
    headers |= {"Deprecation": _DEPRECATED_SINCE}
    headers["Link"] += ', </problems/>; rel="deprecation"'
    return response, status, headers


@blueprint.get("/jobs/<job_id>")
@operation(TAG, "Read a job", answers={200: Answer("The job", JobDocument)}, errors=(errors.JobNotFound,))
async def job(job_id: str) -> Response:
    """A job of this process; they do not outlive it yet."""
    return jsonify(parts().jobs.get(job_id).document())
