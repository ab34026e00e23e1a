"""What a job did with its time: waits and attempts in order, as bars of one chart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ..jobs.states import JobRecord, Status
from ..moments import moment
from .durations import spent

MOST = 30  # bars
_LEAST = 0.4  # percent of the width, so that a short one is seen
_TICKS = 4


class Stretch(NamedTuple):
    """Time from `start` to `end`. `kind`: delayed, queued, waiting, running, or the outcome of an attempt."""

    label: str
    kind: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch in the chart: `left` and `width` in percent."""

    label: str
    kind: str
    spent: str
    start: datetime
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Chart:
    """`ticks` are texts at equal distances from the start to the end; `asked`: where cancellation was requested, in percent."""

    bars: Sequence[Bar]
    left_out: int
    ticks: Sequence[str]
    asked: float | None
    start: str
    end: str


def chart(job: JobRecord, attempts: Iterable[Mapping[str, Any]], now: datetime) -> Chart:
    found = list(stretches(job, attempts, now))
    start, end = found[0].start, max(stretch.end for stretch in found)
    whole = max((end - start).total_seconds(), 1e-6)

    def place(at: datetime) -> float:
        return 100 * (at - start).total_seconds() / whole

    bars = []
    for stretch in found if len(found) <= MOST else [*found[: MOST // 4], *found[-(MOST - MOST // 4) :]]:
        width = max(_LEAST, place(stretch.end) - place(stretch.start))
        left = min(place(stretch.start), 100 - width)
        lasted = spent((stretch.end - stretch.start).total_seconds())
        bars.append(Bar(stretch.label, stretch.kind, lasted, stretch.start, round(left, 2), round(width, 2)))
    asked = job.cancel_requested_at and round(min(100, place(moment(job.cancel_requested_at))), 2)
    return Chart(
        bars,
        len(found) - len(bars),
        [spent(whole * tick / _TICKS) if tick else "0" for tick in range(_TICKS + 1)],
        asked or None,
        start.isoformat(),
        end.isoformat(),
    )


def stretches(job: JobRecord, attempts: Iterable[Mapping[str, Any]], now: datetime) -> Iterable[Stretch]:
    """Yield the waits and attempts of a job from its creation until its end, or `now`."""
    runs = [(run["number"], run["outcome"], moment(run["started_at"]), moment(run["finished_at"])) for run in attempts]
    if job.status is Status.RUNNING and job.started_at is not None:
        runs.append((job.attempt, "running", moment(job.started_at), now))
    at = moment(job.created_at)
    due = moment(job.run_at)
    if at < due and (not runs or due <= runs[0][2]):  # else it is the time of a retry
        at = min(due, moment(job.finished_at)) if job.finished_at else due
        yield Stretch("Delayed", "delayed", moment(job.created_at), at)
    for index, (number, outcome, start, end) in enumerate(runs):
        if start > at:
            yield Stretch("Waited" if index else "Queued", "waiting" if index else "queued", at, start)
        yield Stretch(f"Attempt {number}", outcome, start, max(start, end))
        at = max(start, end)
    end = moment(job.finished_at) if job.finished_at else now
    if job.status is Status.QUEUED and runs and due > at:
        yield Stretch("Waits to retry", "delayed", at, due)
        at = due
    if end > at and (job.status is Status.QUEUED or not runs):
        yield Stretch("Queued", "queued", at, end)
    elif not runs and at == moment(job.created_at):
        yield Stretch("Queued", "queued", at, at)
