"""Delivers the outcome of a task to its caller: waiting, with a job, as a stream or with a callback."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json
from quart import Response, request

from ...errors import JobCancelled, KeyTaken, TaskPaused
from ...jobs.context import WaitContext
from ...jobs.ids import new_id
from ...jobs.outcomes import as_json, call, failure
from ...jobs.states import JobRecord, Status
from ...services.idempotency import JobReply, Reply
from ...services.submissions import Options
from ...tasks import Task
from ..contract.documents import EVENT_STREAM
from ..guards.access import caller, state
from ..guards.cross_site import refuse_unattributable, require_change
from ..json import JsonResponse
from ..parts import parts
from ..problems import answer, stored_problem
from .event_stream import reserve_stream, stream
from .idempotency import given, in_flight, kept, mark, reply, sent_key
from .prefer import Preferences, parse

RETRY_AFTER = 1  # seconds between polls of a job

Renderer = Callable[[Any], Awaitable[Response | None]]
Shape = Callable[[dict[str, Any]], Mapping[str, Any]]


class Delivery(Enum):
    WAIT = auto()
    COME_BACK = auto()
    WAIT_THEN_COME_BACK = auto()
    STREAM = auto()


@dataclass(frozen=True, slots=True)
class Choice:
    delivery: Delivery
    preferences: Preferences


def chosen(*, always_job: bool = False, called_back: bool = False) -> Choice:
    """The delivery that the caller requests. `always_job`: the route always starts a job, so only `wait` is applied.

    `called_back`: a request with a callback is asynchronous (202), unless it has another preference.
    """
    preferences = parse(", ".join(request.headers.getlist("Prefer")))
    if _wants_events():
        return Choice(Delivery.STREAM, Preferences())
    if preferences.wait is not None and (preferences.respond_async or always_job):
        return Choice(Delivery.WAIT_THEN_COME_BACK, preferences)
    if preferences.respond_async or always_job or called_back:
        return Choice(Delivery.COME_BACK, replace(preferences, wait=None))
    return Choice(Delivery.WAIT, preferences)


def _wants_events() -> bool:
    """Return whether Accept names the stream and does not prefer JSON."""
    if EVENT_STREAM not in request.headers.get("Accept", "").lower():
        return False
    qualities = [
        quality
        for media_type, quality in request.accept_mimetypes
        if media_type.partition(";")[0].strip().lower() == EVENT_STREAM
    ]
    return bool(qualities) and max(qualities) > 0 and max(qualities) >= request.accept_mimetypes["application/json"]


async def wait_for(task: Task, arguments: BaseModel) -> str:
    """Run `task` in this request, without a job; return its result as JSON.

    Raises ShuttingDown, TaskPaused, and the task's errors.
    """
    service = parts()
    if task.name in service.store.pauses.names:
        raise TaskPaused(f"the task {task.name} is paused; with Prefer: respond-async, its job runs when it is resumed")
    context = WaitContext(new_id(), service.settings, service.resources, service.database.refuse_if_held)
    async with service.lifecycle.wait():
        try:
            value = await call(task, context, arguments, task.timeout)
        except Exception as error:
            raise failure(error) from error
    return as_json(task, value, service.settings.result_max_bytes)


async def respond(result: str, render: Renderer | None) -> Response:
    """Return the result, which is JSON, as `render` shows it."""
    own = None if render is None else await render(from_json(result))
    return JsonResponse(result.encode()) if own is None else own


async def deliver(
    task: Task,
    arguments: BaseModel,
    choice: Choice,
    *,
    options: Options = Options(),  # noqa: B008 - it is frozen
    render: Renderer | None = None,
    shape: Shape = lambda document: document,
) -> Response:
    """Start a job, or find the one that this Idempotency-Key has started, and deliver it.

    `render` makes the route's own answer from its result; without it that is the job document, in the `shape` of the 202.
    """

    async def submit(key: JobReply | None) -> JobRecord:
        return await parts().submissions.submit(task, arguments, options, caller=caller(), key=key)

    return await deliver_job(submit, choice, render=render, shape=shape)


async def deliver_job(
    submit: Callable[[JobReply | None], Awaitable[JobRecord]],
    choice: Choice,
    *,
    render: Renderer | None = None,
    shape: Shape = lambda document: document,
) -> Response:
    """Do the same for a job that `submit` makes, in one transaction with the stored response of its Idempotency-Key."""
    require_change()  # a plain link can request a stream, and so start a job
    if choice.delivery is Delivery.STREAM:
        reserve_stream()
    elif "Prefer" not in request.headers:  # links and images cannot send it
        refuse_unattributable(request)
    applied = {"Preference-Applied": choice.preferences.applied} if choice.preferences.applied else {}

    def reply_of(job: JobRecord) -> Reply:
        return reply(202, come_back_headers(job.id) | applied, shape(job.document()), job.id)

    key = await sent_key()
    job, first = None, await kept(key)
    if first is None:
        with in_flight(key):
            try:
                job = await submit(None if key is None else JobReply(key, reply_of))
                state().started = job.id
            except KeyTaken:  # by another process, or while this one looked
                first = await kept(key)
                if first is None:
                    raise
    if first is not None and choice.delivery is Delivery.COME_BACK:
        return mark(given(first))  # even if the job has expired
    if job is None:
        job = await parts().store.reading.get(str(first and first.job_id), caller().sees)
    if choice.delivery is Delivery.STREAM:
        response = await stream(job)
    elif choice.delivery is Delivery.WAIT_THEN_COME_BACK:
        response = await _waited(job, choice, reply_of, render, shape)
    else:
        response = given(reply_of(job))
    return response if first is None else mark(response)


async def _waited(
    job: JobRecord, choice: Choice, reply_of: Callable[[JobRecord], Reply], render: Renderer | None, shape: Shape
) -> Response:
    ended = await parts().submissions.wait(job.id, choice.preferences.wait or 0, caller())
    if not ended.status.is_terminal:
        return given(reply_of(ended))
    try:
        response = await outcome(ended, render) if render else given(reply(200, {}, shape(ended.document())))
    except JobCancelled as error:
        response = await answer(error)
    response.headers["Link"] = f'</jobs/{job.id}>; rel="monitor"'
    response.headers["Preference-Applied"] = choice.preferences.applied
    return response


async def outcome(job: JobRecord, render: Renderer | None = None) -> Response:
    """Return the result of an ended job as a waiting caller gets it. Raises JobCancelled, Unreadable."""
    if job.status is Status.FAILED:
        return stored_problem(job.part("error"))
    if job.status is Status.CANCELLED:
        raise JobCancelled("the job was cancelled and has no result")
    job.part("result")  # raises Unreadable; the stored text is sent, because the task may have changed since
    return await respond(job.result or "null", render)


def come_back_headers(job_id: str) -> dict[str, str]:
    location = f"/jobs/{job_id}"
    return {"Location": location, "Retry-After": str(RETRY_AFTER), "Link": f'<{location}>; rel="monitor"'}
