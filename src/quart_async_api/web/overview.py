"""The overview: what all processes have done in the last hour, drawn from the figures that they keep."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quart import Blueprint, render_template
from werkzeug.exceptions import NotFound

from ..http.contract.needs import Scope, needs
from ..http.parts import parts
from ..moments import moment
from ..observability.histograms import STEPS, Histogram, end, percentile
from ..observability.metric_names import Figures as Readings
from ..observability.minutes import Minute, Times
from ..problem_types import TYPES
from ..services.figures import Hour
from .charts import COUNT, DURATION, RATE, Chart, Series, count
from .durations import brief

blueprint = Blueprint("overview_pages", __name__, url_prefix="/console/overview")

_SHOWN = 8  # tasks, and kinds of failures


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of the top row. `note` says what it is of; `is_bad`: it wants a look."""

    name: str
    value: str
    note: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A task in the table; `bars`: how many ran how long, as a path with one bar a doubling, 100 high."""

    name: str
    attempts: int
    failed: int
    ran: tuple[str, str, str]
    queued: tuple[str, str, str]
    bars: str


@blueprint.get("")
@needs(Scope.ADMIN)
async def overview() -> str:
    service = parts()
    readings = await service.census.figures()
    hour = await service.figures.read()
    low, high = _span(hour.tasks.values())
    return await render_template(
        "overview.html",
        hour=hour,
        kept=service.figures.kept,
        facts=list(_facts(hour, readings)),
        charts={chart.id: chart for chart in _charts(hour)},
        tasks=[_row(name, times, low, high) for name, times in list(hour.tasks.items())[:_SHOWN]],
        doublings=high - low + 1,
        left_out=max(0, len(hour.tasks) - _SHOWN),
        span=(brief(end(low * STEPS - STEPS)) if low else "0 s", brief(end(high * STEPS))),
        failures=list(hour.failures.items())[:_SHOWN],
        most_failures=max(hour.failures.values(), default=0),
        is_quiet=not any(minute.submitted or minute.tasks for minute in hour.minutes.values()),
        started=[moment(text) for minute in hour.minutes.values() for text in minute.started],
        known=service.tasks,
        problems=TYPES,
    )


@blueprint.get("/<name>")
@needs(Scope.ADMIN)
async def table(name: str) -> str:
    """The figures of one chart, for those who want or need them as numbers."""
    chart = {chart.id: chart for chart in _charts(await parts().figures.read())}.get(name)
    if chart is None:
        raise NotFound("No chart of the overview has this name.")
    return await render_template("overview_table.html", chart=chart)


def _facts(hour: Hour, readings: Readings) -> Iterable[Fact]:
    minutes = list(hour.minutes.values())
    ended = {name: sum(getattr(each, name) for each in minutes) for name in ("succeeded", "failed", "cancelled")}
    failed, all_ended = ended["failed"], sum(ended.values())
    yield Fact("Ended jobs", count(all_ended), f"{count(ended['succeeded'])} succeeded")
    share = failed / all_ended if all_ended else 0.0
    note = (
        (f"{share:.0%}" if share >= 0.1 else f"{share:.1%}") + " of all"
        if failed
        else f"of {count(all_ended)} that ended"
    )
    yield Fact("Failed jobs", count(failed), note, failed > 0)
    jobs = readings.get("qaa_jobs")
    if isinstance(jobs, Mapping):
        running = sum(number for (_, state), number in jobs.items() if state == "running")
        oldest = readings.get("qaa_oldest_due_job_age_seconds", 0.0)
        waits = brief(oldest) if isinstance(oldest, float) and oldest else "none"
        yield Fact("Queued jobs", count(sum(jobs.values()) - running), f"oldest due: {waits}")
        workers = readings.get("qaa_workers", 0)
        number = int(workers) if isinstance(workers, (int, float)) else 0
        yield Fact("Running jobs", count(running), f"on {number} worker{'' if number == 1 else 's'}")
    if minutes:
        full = minutes[-2] if len(minutes) > 1 else minutes[-1]
        yield Fact("Requests a second", count(round(sum(full.requests) / 60, 2)), "in the last full minute")
        worst = max(each.lag for each in minutes)
        yield Fact("Loop lag", _lag(max(minutes[-1].lag, full.lag)), f"greatest: {_lag(worst)}", worst >= 0.5)


def _lag(seconds: float) -> str:
    return brief(seconds) if seconds else "under 10 ms"


def _charts(hour: Hour) -> Iterable[Chart]:
    moments, minutes = list(hour.minutes), list(hour.minutes.values())
    started = [moment(text) for minute in minutes for text in minute.started]
    begins = next((at for at, minute in enumerate(minutes) if minute != Minute()), 0)
    spans = [60.0] * len(minutes)
    if spans:
        spans[-1] = max(1.0, (hour.now - moments[-1]).total_seconds())  # this minute is not over

    def of(name: str) -> Sequence[float]:
        return [getattr(each, name) for each in minutes]

    def rate(place: int) -> Sequence[float]:
        return [round(each.requests[place] / span, 2) for each, span in zip(minutes, spans, strict=True)]

    yield Chart(
        "jobs",
        "Jobs",
        "a minute",
        moments,
        (
            Series("failed", "failed", of("failed")),
            Series("cancelled", "cancelled", of("cancelled")),
            Series("succeeded", "succeeded", of("succeeded")),
            Series("submitted", "submitted", of("submitted"), is_line=True),
        ),
        COUNT,
        started,
        begins,
        unfinished=True,
    )
    yield Chart(
        "queue",
        "Queued and running",
        "jobs",
        moments,
        (
            Series("running", "running", of("running"), is_line=True),
            Series("queued", "queued", of("queued"), is_line=True),
        ),
        COUNT,
        started,
        begins,
    )
    yield Chart(
        "requests",
        "Requests",
        "a second, by status",
        moments,
        (
            Series("5xx", "failed", rate(4)),
            Series("4xx", "cancelled", rate(3)),
            Series("3xx", "moved", rate(2)),
            Series("2xx", "succeeded", [a + b for a, b in zip(rate(0), rate(1), strict=True)]),
        ),
        RATE,
        started,
        begins,
        unfinished=True,
    )
    for id, title, name, measure in (
        ("oldest", "Oldest due job", "oldest", DURATION),
        ("lag", "Loop lag", "lag", DURATION),
        ("connections", "Connections", "connections", COUNT),
    ):
        series = (Series(title.lower(), "running", of(name), is_line=True),)
        yield Chart(id, title, "greatest of a minute", moments, series, measure, started, begins)


def _span(tasks: Iterable[Times]) -> tuple[int, int]:
    """Return the first and the last doubling in which an attempt ended, of all tasks."""
    numbers = [_doubling(number) for times in tasks for number in times.ran]
    return min(numbers, default=0), max(numbers, default=0)


def _doubling(number: int) -> int:
    return -(-number // STEPS)


def _row(name: str, times: Times, low: int, high: int) -> Row:
    doublings = [0] * (high - low + 1)
    for number, attempts in times.ran.items():
        doublings[_doubling(number) - low] += attempts
    most = max(doublings)
    heights = [max(4, round(100 * each / most)) if each else 0 for each in doublings]
    bars = "".join(f"M{at} {100 - height}h.86v{height}h-.86z" for at, height in enumerate(heights) if height)
    return Row(name, times.attempts, times.failed, _percentiles(times.ran), _percentiles(times.queued), bars)


def _percentiles(histogram: Histogram) -> tuple[str, str, str]:
    p50, p95, p99 = (brief(percentile(histogram, percent) or 0.0) for percent in (50, 95, 99))
    return p50, p95, p99
