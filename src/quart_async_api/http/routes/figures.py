"""The figures of the last hour, which the overview of the console draws."""

from typing import Annotated

from pydantic import Field
from pydantic_core import to_json
from quart import Blueprint, Response
from typing_extensions import TypedDict

from ...moments import timestamp
from ...observability.histograms import Histogram, end, percentile
from ...services.figures import Hour
from ..contract.documents import Time
from ..contract.needs import Scope, needs
from ..contract.operations import Answer, operation
from ..json import JsonResponse
from ..parts import parts

blueprint = Blueprint("figures", __name__)

Count = Annotated[int, Field(ge=0, examples=[12])]
Seconds = Annotated[float, Field(ge=0, examples=[0.05])]


class MinuteShape(TypedDict):
    """Counts of one minute; `queued`, `running`, `oldest_due_seconds` and `lag_seconds`: the greatest reading in it.

    `requests`: by class of status, from `1xx` to `5xx`.
    """

    minute: Time
    submitted: Count
    succeeded: Count
    failed: Count
    cancelled: Count
    queued: Count
    running: Count
    oldest_due_seconds: Seconds
    requests: Annotated[dict[str, int], Field(examples=[{"1xx": 0, "2xx": 118, "3xx": 0, "4xx": 2, "5xx": 0}])]
    connections: Count
    lag_seconds: Seconds
    started: Annotated[list[Time], Field(examples=[[]])]


class Percentiles(TypedDict):
    p50: Seconds
    p95: Seconds
    p99: Seconds


class Bucket(TypedDict):
    """Attempts that ran for at most `up_to` seconds, and longer than the bucket before allows."""

    up_to: Seconds
    attempts: Count


class TaskFigures(TypedDict):
    task: Annotated[str, Field(examples=["report"])]
    attempts: Count
    failed: Count
    queue_seconds: Percentiles
    run_seconds: Percentiles
    run_histogram: list[Bucket]


class FailureFigures(TypedDict):
    kind: Annotated[str, Field(examples=["ValueError"])]
    attempts: Count


class HourShape(TypedDict):
    at: Time
    minutes: list[MinuteShape]
    tasks: list[TaskFigures]
    failures: list[FailureFigures]


@blueprint.get("/figures")
@needs(Scope.ADMIN)
@operation("Health", "Figures of the last hour", answers={200: Answer("The figures, minute by minute", HourShape)})
async def figures() -> Response:
    """Counts of all processes of the database, for the last `QAA_OVERVIEW_MINUTES`, the present minute included. The figures of
    other processes are up to 10 seconds old. `tasks` and `failures` are sums of all these minutes: attempts that succeeded or
    failed, and failed attempts by the type of their problem or, for a fault of the code, the name of the exception. Percentiles
    are at most a tenth off. Needs a key with the scope `admin`."""
    return JsonResponse(to_json(document(await parts().figures.read())), headers=(("Cache-Control", "no-store"),))


def document(hour: Hour) -> HourShape:
    """Return the figures as JSON shows them."""
    minutes: list[MinuteShape] = [
        {
            "minute": timestamp(at),
            "submitted": minute.submitted,
            "succeeded": minute.succeeded,
            "failed": minute.failed,
            "cancelled": minute.cancelled,
            "queued": minute.queued,
            "running": minute.running,
            "oldest_due_seconds": minute.oldest,
            "requests": {f"{digit}xx": count for digit, count in enumerate(minute.requests, 1)},
            "connections": minute.connections,
            "lag_seconds": minute.lag,
            "started": minute.started,
        }
        for at, minute in hour.minutes.items()
    ]
    tasks: list[TaskFigures] = [
        {
            "task": task,
            "attempts": times.attempts,
            "failed": times.failed,
            "queue_seconds": _percentiles(times.queued),
            "run_seconds": _percentiles(times.ran),
            "run_histogram": [
                {"up_to": _rounded(end(number)), "attempts": count} for number, count in sorted(times.ran.items())
            ],
        }
        for task, times in hour.tasks.items()
    ]
    failures: list[FailureFigures] = [{"kind": kind, "attempts": count} for kind, count in hour.failures.items()]
    return {"at": timestamp(hour.now), "minutes": minutes, "tasks": tasks, "failures": failures}


def _percentiles(histogram: Histogram) -> Percentiles:
    p50, p95, p99 = (_rounded(percentile(histogram, percent) or 0.0) for percent in (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99}


def _rounded(seconds: float) -> float:
    """Three digits say all that a bucket knows."""
    return float(f"{seconds:.3g}")
