"""@delivers: makes a route of a task, and says what any route that starts a job answers."""

from collections.abc import Callable
from functools import wraps
from inspect import cleandoc, iscoroutinefunction, signature
from typing import Any, Literal

from quart import Response, after_this_request, request
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import (
    InvalidInput,
    JobCancelled,
    JobExpired,
    KeyInFlight,
    KeyReused,
    QueueFull,
    ResourceMissing,
    ResultUnusable,
    ServiceError,
    ShuttingDown,
    TaskFailed,
    TaskPaused,
    TaskTimeout,
    TooManyStreams,
    Unreadable,
)
from ...services.submissions import Options
from ...tasks import Task
from ..contract.arguments import read_arguments
from ..contract.documents import EVENT_STREAM, Job, ServerSentEvent
from ..contract.needs import DELIVERED, STARTS_JOB, needs
from ..contract.operations import ATTRIBUTE, Answer, CallbackUrl, Operation, View
from .callbacks import CallbackWish, callback_of
from .delivery import Delivery, Renderer, chosen, deliver, respond, wait_for
from .event_stream import resumed_job, stream
from .idempotency import HEADER, sent_key

AnyResponse = Response | WerkzeugResponse


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


def delivers(
    task: Task,
    *,
    tag: str = "Routes",
    scope: Scope | Literal["any"] | None = None,
    errors: tuple[type[ServiceError], ...] = (),
    renditions: tuple[Answer, ...] = (),
    example: object = None,
) -> Callable[[Renderer], View]:
    """Make a route of a task, that sends its result as JSON, the same bytes in every delivery.

    The decorated function gets the result as its caller reads it, in lists, dicts and so on, and returns None, or a
    response of its own to send instead.

    The route takes the task's arguments from its path by their names, else from the JSON body of a POST, PUT or PATCH, else
    from the query, and delivers as its caller wishes (contract, section 0). HEAD starts nothing and waits for nothing. `scope`
    of the key: by default `read` for GET, else `write`. `tag`, `errors`, `renditions` (answers besides the task's own JSON) and
    `example` (of that) are for the documents. Raises TypeError if the function does not take the result alone, or if an
    argument has the name of a delivery option.
    """

    def decorate(render: Renderer) -> View:
        _check(task, render)

        async def run(**path: object) -> Response:
            arguments, wish = await read_arguments(task.arguments, CallbackWish, path)
            if request.method == "HEAD":
                return Response(status=200, content_type="application/json")
            if (resumed := await resumed_job(task.name)) is not None:
                return await stream(resumed)
            await sent_key()  # a bad one is refused in every delivery
            callback = callback_of(wish)
            choice = chosen(called_back=callback is not None)
            if choice.delivery is Delivery.WAIT:
                return await respond(await wait_for(task, arguments), render)
            return await deliver(task, arguments, choice, options=Options(callback=callback), render=render)

        answer = Answer("The result", task.result, headers={"Vary": "Prefer, Accept"}, example=example)
        contract = Operation(
            task.summary,
            cleandoc(render.__doc__ or ""),
            tag,
            {200: (answer, *renditions, STREAMED), 202: (STARTED,)},
            query=CallbackWish,
            headers=HEADERS,
            errors=(*errors, *FAILURES, *REFUSALS, JobCancelled, TaskPaused),
            callback=CallbackUrl.QUERY,
            arguments=task.arguments,
        )
        view = needs(scope, audited=STARTS_JOB)(varies(run))
        view.__name__ = render.__name__
        setattr(view, ATTRIBUTE, contract)
        setattr(view, DELIVERED, task)
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
    if taken := sorted(task.arguments.model_fields.keys() & CallbackWish.model_fields.keys()):
        raise TypeError(f"the route of task {task.name!r}: its argument {taken[0]!r} has the name of a delivery option")


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
