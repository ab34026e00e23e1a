"""The timeline of a job: what it did with its time, from its creation to its end."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import later, moment
from quart_async_api.web.timeline import MOST, chart, stretches

START = "2026-01-01T00:00:00.000000Z"


def job(status: Status, *, run_at: float = 0, attempt: int = 0, **times: float) -> JobRecord:
    """A job with these times in seconds after its creation."""
    new = JobRecord("x", "test", status, "{}", 0, 9, None, START, later(START, run_at), attempt=attempt)
    return new._replace(**{name: later(START, at) for name, at in times.items()})  # type: ignore[arg-type]


def attempt(number: int, begin: float, end: float, outcome: str = "failed") -> dict[str, Any]:
    return {"number": number, "outcome": outcome, "started_at": later(START, begin), "finished_at": later(START, end)}


def seconds(at: datetime) -> float:
    return (at - moment(START)) / timedelta(seconds=1)


@pytest.mark.parametrize(
    ("given", "attempts", "expected"),
    [
        (job(Status.QUEUED), [], [("queued", 0, 100)]),
        (job(Status.QUEUED, run_at=300), [], [("delayed", 0, 300)]),
        (job(Status.QUEUED, run_at=30), [], [("delayed", 0, 30), ("queued", 30, 100)]),
        (job(Status.RUNNING, started_at=5, attempt=1), [], [("queued", 0, 5), ("running", 5, 100)]),
        (job(Status.CANCELLED, run_at=300, finished_at=7), [], [("delayed", 0, 7)]),
        (job(Status.CANCELLED, finished_at=7), [], [("queued", 0, 7)]),
        (job(Status.CANCELLED, finished_at=0), [], [("queued", 0, 0)]),
        (
            job(Status.QUEUED, run_at=120, started_at=1, attempt=1),
            [attempt(1, 1, 2)],
            [("queued", 0, 1), ("failed", 1, 2), ("delayed", 2, 120)],
        ),
        (
            job(Status.SUCCEEDED, run_at=4, started_at=5, finished_at=6, attempt=2),
            [attempt(1, 0, 2, "crashed"), attempt(2, 5, 6, "succeeded")],
            [("crashed", 0, 2), ("waiting", 2, 5), ("succeeded", 5, 6)],
        ),
    ],
)
def test_every_second_of_a_job_is_in_one_stretch(
    given: JobRecord, attempts: list[dict[str, Any]], expected: list[tuple[str, float, float]]
) -> None:
    found = stretches(given, attempts, moment(later(START, 100)))
    assert [(each.kind, seconds(each.start), seconds(each.end)) for each in found] == expected


def test_the_chart_shows_short_bars_and_leaves_out_those_in_between() -> None:
    ended = job(Status.FAILED, started_at=198, finished_at=198.1, cancel_requested_at=99.05, attempt=100)
    runs = [attempt(number, 2 * number - 2, 2 * number - 1.9) for number in range(1, 101)]
    drawn = chart(ended, runs, moment(START))
    assert len(drawn.bars) == MOST
    assert drawn.left_out == 199 - MOST
    assert (drawn.bars[0].label, drawn.bars[-1].label) == ("Attempt 1", "Attempt 100")
    assert all(bar.width >= 0.4 and bar.left >= 0 and bar.left + bar.width <= 100.01 for bar in drawn.bars)
    assert drawn.bars[1].spent == "1.90 s"
    assert drawn.asked == 50
    assert drawn.ticks == ["0", "49.5 s", "1 min 39 s", "2 min 29 s", "3 min 18 s"]
