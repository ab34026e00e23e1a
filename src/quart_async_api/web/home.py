"""The first page of the console: one page that calls every route. Its forms are made from the OpenAPI document."""

from dataclasses import dataclass

from quart import Blueprint, current_app, render_template, request

from ..http.contract.needs import DELIVERED, Scope, needs
from ..http.contract.openapi import openapi_document
from ..http.contract.operations import Answer, operation
from ..http.guards.access import caller
from ..http.parts import parts
from .reference import Documented, reference

blueprint = Blueprint("home", __name__)


@dataclass(frozen=True, slots=True)
class Section:
    id: str
    title: str
    text: str
    calls: tuple[str, ...]


_SECTIONS = (
    Section(
        "slow",
        "Slow on purpose",
        "Each of these calls waits on purpose. Meanwhile, the event loop serves all other requests.",
        ("GET /test", "GET /get", "GET /mock-db", "GET /gather"),
    ),
    Section(
        "elsewhere",
        "From elsewhere",
        "Calls to other services share one HTTP client, which is opened at the start, and run concurrently.",
        ("GET /comic", "GET /external-api"),
    ),
    Section(
        "background",
        "In the background",
        "The response comes at once. The work continues after it, and can be watched.",
        ("POST /start-task",),
    ),
    Section(
        "users",
        "Users",
        "Rows in the database, through the connection that was opened at the start.",
        ("POST /add-user", "GET /users", "GET /user/{user_id}", "PATCH /user/{user_id}", "DELETE /user/{user_id}"),
    ),
    Section("health", "Health", "Load balancers check this before they send requests.", ("GET /health/ready",)),
)


@dataclass(frozen=True, slots=True)
class Slow:
    """A call to start in four deliveries. `task` is empty for a route, else what `POST /jobs` runs."""

    method: str
    path: str
    task: str = ""

    @property
    def name(self) -> str:
        return f"task {self.task}" if self.task else f"{self.method} {self.path}"


def _slow_calls() -> list[Slow]:
    """Return the routes of tasks, and the tasks without a route, that need no arguments. `/test` comes first."""
    routes: dict[str, Slow] = {"start-task": Slow("POST", "/start-task")}
    for rule in current_app.url_map.iter_rules():
        if task := getattr(current_app.view_functions[rule.endpoint], DELIVERED, None):
            routes.setdefault(task, Slow("GET", rule.rule))
    calls = [
        routes.get(name) or Slow("POST", "/jobs", name)
        for name, task in parts().tasks.items()
        if not any(field.is_required() for field in task.arguments.model_fields.values())
    ]
    return sorted(calls, key=lambda call: (bool(call.task), call.path != "/test", call.path, call.task))


@blueprint.get("/")
@needs(Scope.READ)
@operation("Pages", "The console", answers={200: Answer("A page", str, "text/html")})
async def home() -> str:
    """Shows each route with a form, its `curl` command, the response and the time."""
    known = {f"{each.method} {each.path}": each for each in reference(openapi_document()).operations}
    sections: list[tuple[Section, list[Documented]]] = [
        (section, [known[call] for call in section.calls]) for section in _SECTIONS
    ]
    return await render_template(
        "home.html",
        sections=sections,
        calls=_slow_calls(),
        inbox=parts().inbox.place(caller().key_id),
        delay=parts().settings.delay,
        base=request.host_url.rstrip("/"),
    )
