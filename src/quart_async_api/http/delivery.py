"""How the outcome of a task reaches its caller: the one place that decides, as a decorator on the route."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from pydantic import BaseModel
from quart import Response, after_this_request, request
from werkzeug.wrappers import Response as WerkzeugResponse

from ..errors import ServiceError, ShuttingDown
from ..jobs.ids import new_id
from ..tasks import Task
from .operations import Answer, View, operation
from .parts import parts

AnyResponse = Response | WerkzeugResponse
Renderer = Callable[[Any], Awaitable[Response]]


def delivers(
    task: Task, *, errors: tuple[type[ServiceError], ...] = (), renditions: tuple[Answer, ...] = ()
) -> Callable[[Renderer], View]:
    """Make a route of a task; the decorated function turns the task's result into the response.

    The route takes the task's arguments from the query. The caller waits: the coroutine is awaited in the request, and a
    caller that hangs up cancels it. HEAD starts nothing and waits for nothing. Whichever way it goes, the answer varies by
    Prefer and Accept. `errors` and `renditions` (answers besides the task's own JSON) are for the documents.
    """

    def decorate(render: Renderer) -> View:
        async def run(query: BaseModel) -> Response:
            if request.method == "HEAD":
                return Response(status=200, content_type="application/json")
            return await render(await wait_for(task, query))

        run.__doc__ = render.__doc__
        answer = Answer("The result", task.result, headers={"Vary": "Prefer, Accept"})
        described = operation(
            "Tutorial",
            task.summary,
            query=task.arguments,
            answers={200: (answer, *renditions)},
            errors=(*errors, ShuttingDown),
        )(run)

        @wraps(described)
        async def view() -> Response:
            after_this_request(_vary)  # problems, of bad arguments too, vary as the results do
            response: Response = await described()
            return response

        view.__name__ = render.__name__
        return view

    return decorate


async def _vary(response: AnyResponse) -> AnyResponse:
    response.vary.update(("Prefer", "Accept"))
    return response


async def wait_for(task: Task, arguments: BaseModel) -> Any:
    """Run `task` in this request, with no row written. Raises ShuttingDown and whatever the task raises."""
    service = parts()
    async with service.lifecycle.wait():
        return await task.run(service.jobs.context(new_id()), arguments)
