"""The pages that call every route and run every task. Their forms are made from the OpenAPI document and the tasks' schemas."""

from functools import lru_cache
from typing import Any

from quart import Blueprint, current_app, render_template, request
from werkzeug.exceptions import NotFound

from ..http.contract.needs import SAFE_METHODS, Needs, Scope, needs
from ..http.contract.openapi import openapi_document, operations
from ..http.guards.access import caller
from ..http.parts import parts
from ..tasks import Task
from .reference import Documented, by_tag, reference, run_of

blueprint = Blueprint("try_it", __name__)

LIST = "/console/try"


@blueprint.get(LIST)
@needs(Scope.READ)
async def try_it() -> str:
    """List the routes and tasks that the caller may use. Scripts load the form of each from its page when it is opened."""
    return await render_template("try.html", groups=_calls())


@blueprint.get(f"{LIST}/<call_id>")
@needs(Scope.READ)
async def one_call(call_id: str) -> str:
    """Show the form of one route or task, its command, the response and the time."""
    call = next((each for _, calls in _calls() for each in calls if each.id == call_id), None)
    if call is None:
        raise NotFound("No route or task that you may use has this name; /console/try lists them.")
    place = parts().inbox.place(caller().key_id) if call.is_delivered else None
    return await render_template(
        "try_call.html", call=call, base=request.host_url.rstrip("/"), inbox=place and place[1]
    )


def _calls() -> list[tuple[str, list[Documented]]]:
    """Return what the caller may use, by tag; tasks are a group of their own, if the caller may submit them."""
    needed = {f"{method} {path}": needs for path, method, _, needs in operations(current_app)}
    every = [
        each for each in reference(openapi_document()).operations if _may(each, needed[f"{each.method} {each.path}"])
    ]
    groups = by_tag(every)
    if jobs := [each for each in every if (each.method, each.path) == ("POST", "/jobs")]:
        groups.insert(
            1, ("Tasks", [run_of(task.name, task.summary, _schema(task), jobs[0]) for task in parts().tasks.values()])
        )
    return groups


def _may(call: Documented, needed: Needs) -> bool:
    scope = needed.scope or (Scope.READ if call.method in SAFE_METHODS else Scope.WRITE)
    return needed.keyless or scope == "any" or caller().may(scope)


@lru_cache(maxsize=1024)
def _schema(task: Task) -> dict[str, Any]:
    """Return the schema of a task's arguments, which takes pydantic a millisecond."""
    return task.arguments.model_json_schema()
