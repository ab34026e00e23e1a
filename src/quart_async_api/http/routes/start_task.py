"""/start-task: the tutorials' background work, which is always a job."""

from typing import Any

from quart import Blueprint, Response, request

from ... import tutorial
from ...errors import KeyReused, QueueFull, ShuttingDown
from ..delivery import HEADERS, STREAMED, chosen, deliver, varies
from ..documents import Started
from ..event_stream import resumed_job, stream
from ..operations import Answer, operation

blueprint = Blueprint("start_task", __name__)

TAG = "Tutorial"
# RFC 9745: since when starting work by GET has been deprecated; POST /start-task is its successor.
_DEPRECATED_SINCE = "@1795219200"
_STARTED = Answer(
    "The job that was started", Started, headers={"Location": "The job's address", "Retry-After": "Seconds"}
)
_ERRORS = (KeyReused, QueueFull, ShuttingDown)


def _shape(document: dict[str, Any]) -> Started:
    return {"message": "Task started", "job": document}  # type: ignore[typeddict-item]


async def _start() -> Response:
    task = tutorial.start_task
    if (resumed := await resumed_job(task.name)) is not None:
        return await stream(resumed)
    return await deliver(task, task.arguments(), chosen(always_job=True), shape=_shape)


@blueprint.post("/start-task")
@varies
@operation(TAG, "Start the background task", answers={200: STREAMED, 202: _STARTED}, headers=HEADERS, errors=_ERRORS)
async def start_task() -> Response:
    """A job that goes on when its caller is gone, and tells its progress."""
    return await _start()


@blueprint.get("/start-task")
@varies
@operation(
    TAG,
    "Start the background task, as the tutorials do",
    answers={200: STREAMED, 202: _STARTED},
    headers=HEADERS,
    errors=_ERRORS,
    deprecated=True,
)
async def start_task_by_get() -> Response:
    """A GET that changes state: kept for the tutorials' clients. HEAD starts nothing."""
    if request.method == "HEAD":
        return Response(status=202, content_type="application/json")
    response = await _start()
    response.headers["Deprecation"] = _DEPRECATED_SINCE
    response.headers.add("Link", '</docs>; rel="deprecation"')
    return response
