"""The first page of the console: one slow call in four deliveries, and many calls on one event loop."""

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic_core import to_json
from quart import Blueprint, Response, current_app, render_template, request

from ..http.contract.needs import DELIVERED, Scope, needs
from ..http.contract.operations import Answer, operation
from ..http.guards.access import caller
from ..http.guards.headers import content_security_policy
from ..http.parts import parts

blueprint = Blueprint("home", __name__)


@dataclass(frozen=True, slots=True)
class Slow:
    """A call to start in four deliveries. `task` is empty for a route, else what `POST /jobs` runs."""

    method: str
    path: str
    task: str = ""

    @property
    def name(self) -> str:
        return f"task {self.task}" if self.task else f"{self.method} {self.path}"

    def curl(self, delivery: str, base: str, callback: str) -> str:
        """Return the command that asks for a delivery (wait, back, stream or hook); static/deliveries.js sends the same."""
        always = self.method == "POST"  # starts a job whatever it is asked
        words = ["curl", *(["-N"] if delivery == "stream" else ()), *(["-X", "POST"] if always else ())]
        called_back = f"?callback_url={callback}" if delivery == "hook" and not self.task else ""
        words.append(f"{base}{self.path}{called_back}")
        if delivery == "wait" and always:
            words += ["-H", "Prefer: wait=30"]
        if delivery == "back" and not always:
            words += ["-H", "Prefer: respond-async"]
        if delivery == "stream":
            words += ["-H", "Accept: text/event-stream"]
        if self.task:
            body = {"task": self.task} | ({"callback_url": callback} if delivery == "hook" else {})
            words += ["-H", "Content-Type: application/json", "-d", to_json(body).decode()]
        return shlex.join(words)


def _slow_calls() -> list[Slow]:
    """Return the routes of tasks, and the tasks without a route, that need no arguments. `/test` comes first."""
    routes: dict[str, Slow] = {}
    for rule in current_app.url_map.iter_rules():
        if rule.endpoint == "start_task.start_task":
            routes["start-task"] = Slow("POST", rule.rule)
        task = getattr(current_app.view_functions[rule.endpoint], DELIVERED, None)
        if task and "GET" in (rule.methods or ()) and not rule.arguments:
            routes.setdefault(task.name, Slow("GET", rule.rule))
    calls = [
        routes.get(name) or Slow("POST", "/jobs", name)
        for name, task in parts().tasks.items()
        if not any(field.is_required() for field in task.arguments.model_fields.values())
    ]
    return sorted(calls, key=lambda call: (bool(call.task), call.path != "/test", call.path, call.task))


@blueprint.get("/")
@needs(Scope.READ)
@operation("Pages", "The console", answers={200: Answer("A page", str, "text/html")})
async def home() -> Response:
    """Starts one slow call in four deliveries, and many calls at once on one event loop."""
    settings = parts().settings
    page = Response(
        await render_template(
            "home.html",
            calls=_slow_calls(),
            has_tutorial="tutorial.test" in current_app.view_functions,
            inbox=parts().inbox.place(caller().key_id),
            delay=settings.delay,
            base=request.host_url.rstrip("/"),
        )
    )
    page.headers["Content-Security-Policy"] = content_security_policy(*_picture_origins(settings.comic_base_url))
    return page


def _picture_origins(base: str) -> tuple[str, ...]:
    """Return the origin of the comics and those of its subdomains, which may have the pictures (imgs.xkcd.com)."""
    parts = urlsplit(base)
    host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    is_name = not host.rpartition(".")[2].isdigit() and ":" not in host
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}{port}"
    return (origin, f"{parts.scheme}://*.{host}{port}") if is_name else (origin,)
