"""Health, for whoever watches the process (draft-inadarei-api-health-check-06)."""

from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json
from quart import Blueprint, Response
from typing_extensions import TypedDict

from ... import __version__
from ...errors import DatabaseUnavailable, StartupError
from ...problem_types import NOT_READY
from ..operations import Answer, operation
from ..parts import parts
from ..problems import problem

blueprint = Blueprint("health", __name__, url_prefix="/health")

MEDIA_TYPE = "application/health+json"


class Health(TypedDict):
    status: Annotated[str, Field(examples=["pass"])]
    version: Annotated[str, Field(examples=["1.0.0"])]
    checks: Annotated[dict[str, list[dict[str, Any]]], Field(examples=[{}])]


@blueprint.get("/live")
@operation("Health", "Is the process alive?", answers={200: Answer("It is", Health, MEDIA_TYPE)})
async def live() -> Response:
    """Touches nothing: restart the process when this does not answer."""
    return _answer({})


@blueprint.get("/ready")
@operation(
    "Health",
    "Can the process take work?",
    answers={200: Answer("It can", Health, MEDIA_TYPE)},
    errors=(NOT_READY,),
)
async def ready() -> Response:
    """Fails while the database cannot be used, and from the moment the process is being stopped."""
    service = parts()
    problems = {"database:connection": await _database_problem(), "process:draining": None}
    if service.lifecycle.draining.is_set():
        problems["process:draining"] = "the process is being stopped"
    return _answer(problems)


async def _database_problem() -> str | None:
    try:
        await parts().database.ping()
    except (DatabaseUnavailable, StartupError) as error:
        return str(error)
    return None


def _answer(problems: dict[str, str | None]) -> Response:
    checks = {
        name: [{"status": "pass"} if detail is None else {"status": "fail", "output": detail}]
        for name, detail in problems.items()
    }
    if failing := [detail for detail in problems.values() if detail is not None]:
        return problem(NOT_READY, "; ".join(failing), version=__version__, checks=checks)
    document: Health = {"status": "pass", "version": __version__, "checks": checks}
    return Response(to_json(document), 200, {"Cache-Control": "no-store"}, content_type=MEDIA_TYPE)
