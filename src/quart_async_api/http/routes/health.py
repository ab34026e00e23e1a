"""Health checks (draft-inadarei-api-health-check-06)."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json
from quart import Blueprint, Response
from typing_extensions import TypedDict

from ... import __version__
from ...background.loops import Loop
from ...errors import DatabaseUnavailable, ServiceError, StartupError
from ...moments import timestamp
from ...observability.loop_watch import Block
from ...problem_types import NOT_READY
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..json import JsonResponse
from ..parts import parts
from ..problems import problem

blueprint = Blueprint("health", __name__, url_prefix="/health")

MEDIA_TYPE = "application/health+json"
LONGEST_LAG_SECONDS = 5.0
BLOCK_SHOWN_SECONDS = 300.0
_UNSTORED = (("Cache-Control", "no-store"),)

Checks = dict[str, list[dict[str, Any]]]


class Health(TypedDict):
    status: Annotated[str, Field(examples=["pass"])]
    version: Annotated[str, Field(examples=["1.0.0"])]
    checks: Annotated[Checks, Field(examples=[{}])]


@blueprint.get("/live")
@needs(open=True, limited=False)
@operation("Health", "Is the process alive?", answers={200: Answer("It is", Health, MEDIA_TYPE)})
async def live() -> Response:
    """Uses no other resource. Restart the process if this route does not respond."""
    return JsonResponse(_ALIVE, headers=_UNSTORED, media_type=MEDIA_TYPE)


@blueprint.get("/ready")
@needs(open=True, limited=False)
@operation(
    "Health",
    "Can the process take work?",
    answers={200: Answer("It can", Health, MEDIA_TYPE)},
    errors=(NOT_READY,),
)
async def ready() -> Response:
    """Fails while the database cannot be used, a background loop is overdue or the event loop lags by more than 5 s, and
    during shutdown. Each loop shows its last success. `event-loop:blocked` has the status `warn` for five minutes after a call
    that blocked the loop for longer than `QAA_LOOP_BLOCK_SECONDS`, and names its task or route. `attention:…` warns of a job
    that runs ten times longer than usual, a queue that only grows, a schedule that missed its minute, or a dead worker."""
    service = parts()
    stopping = "the process is being stopped" if service.lifecycle.draining.is_set() else None
    lag = service.lag.seconds
    block = service.loop_watch.last
    blocked = (
        ""
        if block is None
        else f"{block.by} blocked it for {block.seconds:.1f} s at {block.where or 'an unknown place'}"
    )
    lagging = (
        f"the event loop lags by {lag:.1f} s" + (blocked and f": {blocked}") if lag > LONGEST_LAG_SECONDS else None
    )
    checks: Checks = {
        "database:connection": [_check(await _database_problem())],
        "process:draining": [_check(stopping)],
        "event-loop:lag": [_check(lagging, observedValue=round(lag * 1000), observedUnit="ms")],
        "event-loop:blocked": [_blocked_check(block, blocked)],
        "engine:jobs": [_check(None, observedValue=len(service.runs), observedUnit="running")],
    }
    checks |= {
        f"attention:{kind}": [{"status": "warn", "output": text}] for kind, text in service.attention.troubles.items()
    }
    checks |= {f"{loop.name}:last-success": [_loop_check(loop)] for loop in service.loops}
    return _answer(checks)


async def _database_problem() -> str | None:
    try:
        await parts().database.ping()
    except (DatabaseUnavailable, StartupError) as error:
        return str(error)
    return None


def _blocked_check(block: Block | None, blocked: str) -> dict[str, Any]:
    if block is None:
        return _check(None)
    is_recent = (datetime.now(UTC) - block.ended_at).total_seconds() < BLOCK_SHOWN_SECONDS
    seen = {"observedValue": round(block.seconds * 1000), "observedUnit": "ms", "time": timestamp(block.ended_at)}
    return {"status": "warn", "output": blocked, **seen} if is_recent else _check(None, **seen)


def _loop_check(loop: Loop) -> dict[str, Any]:
    detail = None
    if loop.is_overdue:
        why = (
            ""
            if loop.error is None
            else f": {loop.error if isinstance(loop.error, ServiceError) else type(loop.error).__name__}"
        )
        detail = f"{loop.name} has not succeeded for {loop.late:.0f} s{why}"
    seen = {} if loop.succeeded_at is None else {"time": timestamp(loop.succeeded_at)}
    return _check(detail, **seen)


def _check(detail: str | None, **seen: Any) -> dict[str, Any]:
    return {"status": "pass", **seen} if detail is None else {"status": "fail", "output": detail, **seen}


def _answer(checks: Checks) -> Response:
    if failing := [check["output"] for each in checks.values() for check in each if check["status"] == "fail"]:
        return problem(NOT_READY, "; ".join(failing), version=__version__, checks=checks)
    return JsonResponse(_passed(checks), headers=_UNSTORED, media_type=MEDIA_TYPE)


def _passed(checks: Checks) -> bytes:
    document: Health = {"status": "pass", "version": __version__, "checks": checks}
    return to_json(document)


_ALIVE = _passed({})
