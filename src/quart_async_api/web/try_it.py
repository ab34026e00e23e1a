"""The page that calls every route and runs every task. Its forms are made from the OpenAPI document and the tasks' schemas."""

from functools import lru_cache
from typing import Any

from quart import Blueprint, current_app, render_template, request

from ..http.contract.needs import SAFE_METHODS, Needs, Scope, needs
from ..http.contract.openapi import openapi_document, operations
from ..http.guards.access import caller
from ..http.parts import parts
from ..tasks import Task
from .reference import Documented, reference, run_of

blueprint = Blueprint("try_it", __name__)

# Tags in the order of the page; those of apps come after them.
_FIRST = ("Tutorial", "Jobs", "Callbacks", "Users")


@blueprint.get("/console/try")
@needs(Scope.READ)
async def try_it() -> str:
    """Show each route and task that the caller may use, with a form, its command, the response and the time."""
    needed = {f"{method} {path}": needs for path, method, _, needs in operations(current_app)}
    every = [
        each for each in reference(openapi_document()).operations if _may(each, needed[f"{each.method} {each.path}"])
    ]
    groups: list[tuple[str, list[Documented]]] = [
        (tag, [each for each in every if each.tag == tag])
        for tag in sorted(
            {each.tag for each in every},
            key=lambda tag: (_FIRST.index(tag) if tag in _FIRST else len(_FIRST), tag),
        )
    ]
    if jobs := [each for each in every if (each.method, each.path) == ("POST", "/jobs")]:
        groups.insert(
            1, ("Tasks", [run_of(task.name, task.summary, _schema(task), jobs[0]) for task in parts().tasks.values()])
        )
    place = parts().inbox.place(caller().key_id)
    return await render_template("try.html", groups=groups, base=request.host_url.rstrip("/"), inbox=place and place[1])


def _may(call: Documented, needed: Needs) -> bool:
    scope = needed.scope or (Scope.READ if call.method in SAFE_METHODS else Scope.WRITE)
    return needed.keyless or scope == "any" or caller().may(scope)


@lru_cache(maxsize=1024)
def _schema(task: Task) -> dict[str, Any]:
    """Return the schema of a task's arguments, which takes pydantic a millisecond."""
    return task.arguments.model_json_schema()
