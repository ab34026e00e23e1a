"""The page that calls every route. Its forms are made from the OpenAPI document."""

from dataclasses import dataclass

from quart import Blueprint, render_template, request

from ..http.contract.needs import Scope, needs
from ..http.contract.openapi import openapi_document
from .reference import Documented, reference

blueprint = Blueprint("try_it", __name__)


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


@blueprint.get("/console/try")
@needs(Scope.READ)
async def try_it() -> str:
    """Show each route with a form, its `curl` command, the response and the time."""
    known = {f"{each.method} {each.path}": each for each in reference(openapi_document()).operations}
    found: list[tuple[Section, list[Documented]]] = [
        (section, [known[call] for call in section.calls]) for section in _SECTIONS
    ]
    return await render_template("try.html", sections=found, base=request.host_url.rstrip("/"))
