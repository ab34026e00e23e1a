"""How the outcome of a task reaches its caller: the one place that decides, as a decorator on the route."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from quart import Response, request

from ..errors import ServiceError, ShuttingDown
from ..jobs.ids import new_id
from ..tasks import Task
from .operations import Answer, View, operation
from .parts import parts

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
        answer = Answer("The result", task.result, headers={"Vary": "Prefer, Accept"})

        @operation(
            "Tutorial",
            task.summary,
            query=task.arguments,
            answers={200: (answer, *renditions)},
            errors=(*errors, ShuttingDown),
        )
        async def view(query: BaseModel) -> Response:
            if request.method == "HEAD":
                response = Response(status=200, content_type="application/json")
            else:
                response = await render(await wait_for(task, query))
            response.vary.update(("Prefer", "Accept"))
            return response

        view.__name__ = render.__name__
        view.__doc__ = render.__doc__
        return view

    return decorate


async def wait_for(task: Task, arguments: BaseModel) -> Any:
    """Run `task` in this request, with no row written. Raises ShuttingDown and whatever the task raises."""
    service = parts()
    async with service.lifecycle.wait():
        return await task.run(service.jobs.context(new_id()), arguments)
