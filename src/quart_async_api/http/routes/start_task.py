"""/start-task: the background work of the tutorials, always a job."""

from typing import Any

from quart import Blueprint, Response, request

from ... import tutorial
from ...access.caller import Scope
from ...services.submissions import Options
from ..contract.documents import Started
from ..contract.inputs import read_body
from ..contract.needs import STARTS_JOB, needs
from ..contract.operations import Answer, CallbackUrl, operation
from ..delivery.callbacks import CallbackWish, callback_of
from ..delivery.delivers import HEADERS, REFUSALS, STREAMED, varies
from ..delivery.delivery import chosen, deliver
from ..delivery.event_stream import resumed_job, stream

blueprint = Blueprint("start_task", __name__)

TAG = "Tutorial"
# RFC 9745: since when starting work by GET has been deprecated; POST /start-task is its successor.
_DEPRECATED_SINCE = "@1795219200"
_STARTED = Answer(
    "The job that was started", Started, headers={"Location": "The job's address", "Retry-After": "Seconds"}
)
_ENDED = Answer("The job, ended within `Prefer: wait`", Started)


def _shape(document: dict[str, Any]) -> Started:
    return {"message": "Task started", "job": document}  # type: ignore[typeddict-item]


async def _start(wish: CallbackWish) -> Response:
    task = tutorial.start_task
    if (resumed := await resumed_job(task.name)) is not None:
        return await stream(resumed)
    options = Options(callback=callback_of(wish))
    return await deliver(task, task.arguments(), chosen(always_job=True), options=options, shape=_shape)


@blueprint.post("/start-task")
@needs(Scope.WRITE, audited=STARTS_JOB)
@varies
@operation(
    TAG,
    "Start the background task",
    answers={200: (_ENDED, STREAMED), 202: _STARTED},
    headers=HEADERS,
    errors=REFUSALS,
    query=CallbackWish,
    callback=CallbackUrl.QUERY,
)
async def start_task(query: CallbackWish) -> Response:
    """Starts a job that outlives the request and reports its progress. `callback_url` may also be in a JSON body."""
    in_body = request.is_json and await request.get_data()
    return await _start(await read_body(CallbackWish) if in_body else query)


@blueprint.get("/start-task")
@needs(Scope.READ, audited=STARTS_JOB, same_site=True)
@varies
@operation(
    TAG,
    "Start the background task with GET",
    answers={200: (_ENDED, STREAMED), 202: _STARTED},
    headers=HEADERS,
    errors=REFUSALS,
    deprecated=True,
    query=CallbackWish,
    callback=CallbackUrl.QUERY,
)
async def start_task_by_get(query: CallbackWish) -> Response:
    """A GET that changes state, kept for clients of the tutorials. HEAD starts nothing."""
    if request.method == "HEAD":
        return Response(status=202, content_type="application/json")
    response = await _start(query)
    response.headers["Deprecation"] = _DEPRECATED_SINCE
    response.headers.add("Link", '</docs>; rel="deprecation"')
    return response
