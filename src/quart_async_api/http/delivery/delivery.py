"""Delivers the outcome of a task to its caller: waiting, with a job, as a stream or with a callback."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, cast

from pydantic import BaseModel, create_model
from pydantic_core import from_json
from quart import Response, after_this_request, request
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import (
    InvalidInput,
    JobCancelled,
    JobExpired,
    KeyInFlight,
    KeyReused,
    KeyTaken,
    QueueFull,
    ResourceMissing,
    ResultUnusable,
    ServiceError,
    ShuttingDown,
    TaskFailed,
    TaskTimeout,
    TooManyStreams,
    Unreadable,
)
from ...jobs.context import WaitContext
from ...jobs.ids import new_id
from ...jobs.outcomes import as_json, call, failure
from ...jobs.states import JobRecord, Status
from ...services.idempotency import JobReply, Reply
from ...services.submissions import Options
from ...tasks import Task
from ..contract.documents import EVENT_STREAM, Job, ServerSentEvent
from ..contract.needs import DELIVERED, STARTS_JOB, needs
from ..contract.operations import Answer, CallbackUrl, View, operation
from ..guards.access import caller, state
from ..guards.cross_site import refuse_unattributable, require_change
from ..json import JsonResponse
from ..parts import parts
from ..problems import answer, stored_problem
from .callbacks import CallbackWish, callback_of
from .event_stream import reserve_stream, resumed_job, stream
from .idempotency import HEADER, given, in_flight, kept, mark, reply, sent_key
from .prefer import Preferences, parse

RETRY_AFTER = 1  # seconds between polls of a job

AnyResponse = Response | WerkzeugResponse
Renderer = Callable[[Any], Awaitable[Response | None]]
Shape = Callable[[dict[str, Any]], Mapping[str, Any]]

HEADERS = {
    "Prefer": "`respond-async` for a 202 with a job; `respond-async, wait=5` waits up to 5 s for its result first",
    "Accept": "`text/event-stream` for a stream of the job's events",
    HEADER: "For a job: a repeated request with the same key gets the same job",
}
STARTED = Answer(
    "The new job, for `Prefer: respond-async`",
    Job,
    headers={"Location": "Path of the job", "Retry-After": "Seconds", "Preference-Applied": "The applied preferences"},
)
STREAMED = Answer("The events of the job, for `Accept: text/event-stream`", ServerSentEvent, EVENT_STREAM)
FAILURES = (TaskFailed, TaskTimeout, ResultUnusable, ResourceMissing)
REFUSALS = (InvalidInput, JobExpired, KeyInFlight, KeyReused, QueueFull, ShuttingDown, TooManyStreams, Unreadable)


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


def delivers(
    task: Task,
    *,
    errors: tuple[type[ServiceError], ...] = (),
    renditions: tuple[Answer, ...] = (),
    example: object = None,
) -> Callable[[Renderer], View]:
    """Make a route of a task, that sends its result as JSON, the same bytes in every delivery.

    The decorated function gets the result as its caller reads it, in lists, dicts and so on, and returns None, or a
    response of its own to send instead.

    The route takes the task's arguments from the query, and delivers as its caller wishes (contract, section 0). HEAD starts
    nothing and waits for nothing. `errors`, `renditions` (answers besides the task's own JSON) and `example` (of that) are
    for the documents. Raises TypeError if the function does not take the result alone. It cannot have parameters in its path
    or another method than GET: the app refuses to register it with ValueError.
    """

    def decorate(render: Renderer) -> View:
        _check(task, render)
        names = tuple(task.arguments.model_fields)

        async def run(query: BaseModel) -> Response:
            if request.method == "HEAD":
                return Response(status=200, content_type="application/json")
            if (resumed := await resumed_job(task.name)) is not None:
                return await stream(resumed)
            arguments = task.arguments.model_construct(**{name: getattr(query, name) for name in names})
            await sent_key()  # a bad one is refused in every delivery
            callback = callback_of(cast("CallbackWish", query))
            choice = chosen(called_back=callback is not None)
            if choice.delivery is Delivery.WAIT:
                return await _respond(await wait_for(task, arguments), render)
            return await deliver(task, arguments, choice, options=Options(callback=callback), render=render)

        run.__doc__ = render.__doc__
        answer = Answer("The result", task.result, headers={"Vary": "Prefer, Accept"}, example=example)
        described = operation(
            "Tutorial",
            task.summary,
            query=create_model(f"{task.arguments.__name__}InQuery", __base__=(task.arguments, CallbackWish)),
            answers={200: (answer, *renditions, STREAMED), 202: STARTED},
            headers=HEADERS,
            errors=(*errors, *FAILURES, *REFUSALS, JobCancelled),
            callback=CallbackUrl.QUERY,
        )(run)
        view = needs(Scope.READ, audited=STARTS_JOB)(varies(described))
        view.__name__ = render.__name__
        setattr(view, DELIVERED, task.name)
        return view

    return decorate


def _check(task: Task, render: Renderer) -> None:
    try:
        signature(render).bind(None)
    except TypeError:
        fits = False
    else:
        fits = iscoroutinefunction(render)
    if not fits:
        raise TypeError(
            f"the route of task {task.name!r}: write it as async def {render.__name__}(result) -> Response | None"
        )


def varies(view: View) -> View:
    """Add Vary to every response of `view`: results and problems, also those for invalid arguments."""

    @wraps(view)
    async def varying(*args: Any, **kwargs: Any) -> Any:
        after_this_request(_vary)
        return await view(*args, **kwargs)

    return varying


async def _vary(response: AnyResponse) -> AnyResponse:
    """Add Vary: the response depends on the delivery."""
    if "Vary" in response.headers:
        response.vary.update(("Prefer", "Accept"))
    else:
        response.headers["Vary"] = "Prefer, Accept"
    return response


async def wait_for(task: Task, arguments: BaseModel) -> str:
    """Run `task` in this request, without a job; return its result as JSON. Raises ShuttingDown and the task's errors."""
    service = parts()
    context = WaitContext(new_id(), service.settings, service.resources)
    async with service.lifecycle.wait():
        try:
            value = await call(task, context, arguments, task.timeout)
        except Exception as error:
            raise failure(error) from error
    return as_json(task, value, service.settings.result_max_bytes)


async def _respond(result: str, render: Renderer | None) -> Response:
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
    return await _respond(job.result or "null", render)


def come_back_headers(job_id: str) -> dict[str, str]:
    location = f"/jobs/{job_id}"
    return {"Location": location, "Retry-After": str(RETRY_AFTER), "Link": f'<{location}>; rel="monitor"'}
