"""Part `jobs`: from submit to done, and from submit to start, of this service and of the job queues beside it."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import filling, http, queues
from .figures import Measures, Part
from .load import Request, measured, tool, warm_up
from .machine import Guard
from .rounds import Turn, alternate
from .servers import CannotStart, Server, make_databases, started

CALLERS = {"64 callers": 64, "500 callers": 500, "one caller": 1}
HTTP, QUEUED = "through HTTP", "one caller, beside queued jobs"
SUBMIT, ADD = "ours, POST /jobs until done", "ours, POST /add-user"
SIZES = (0, 1_000, 100_000)

_SERVER = Server(
    SUBMIT,
    "`quart-async-api serve`, the log at warning; `Prefer: wait=30`",
    http.SERVE,
    "ours",
    "/health/live",
    {"QAA_TASKS": "benchmarks.tasks", "QAA_MAX_USERS": "900000000", "QAA_KEPT_JOBS": "0"},
)
_JSON = {"Content-Type": "application/json"}
_REQUESTS = {
    SUBMIT: Request("/jobs", "POST", '{"task": "noop"}', _JSON | {"Prefer": "wait=30"}),
    ADD: http.ROUTES[http.ADD],
}


def beside(size: int) -> str:
    return f"ours, {size:,} queued"


PACE = http.Pace(1.5, 5, 30)


def measure(pace: http.Pace = PACE, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "jobs",
        "Durable no-op jobs",
        f"Callers in a closed loop, in the process that runs the jobs, on one core; Redis and PostgreSQL have the other core. "
        f"Through HTTP: {tool()}. {pace.rounds} rounds of {pace.seconds:g} s. CPU seconds with those of Redis and PostgreSQL.",
        base=queues.OURS,
        settings={queue.name: queue.settings for queue in queues.QUEUES} | {SUBMIT: _SERVER.shown, ADD: "the same server"},
        limits=[queues.BARE, ADD],
    )  # fmt: skip
    guard = Guard(pace.spare)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        folder = Path(name)
        make_databases(folder)
        _callers(part, folder, pace, guard)
        part.rows[HTTP] = _http(folder, pace, guard, part.missing)
        part.rows[QUEUED] = _queued(folder, pace, guard, part.missing)
    for row, contenders in part.rows.items():
        for contender, found in contenders.items():
            say(f"{row:32}{contender:32}" + "".join(f"{values[0]:12,.2f} {unit}" for unit, values in found.items()))
    return part.finish(guard)


def _callers(part: Part, folder: Path, pace: http.Pace, guard: Guard) -> None:
    with contextlib.ExitStack() as stack:
        helpers: dict[str, queues.Helper] = {}
        for name, start in (("redis", queues.redis), ("postgresql", queues.postgresql)):
            try:
                helpers[name] = stack.enter_context(start(folder))
            except CannotStart as error:
                part.missing[name] = str(error)
        there: dict[str, queues.Looping] = {}
        for number, queue in enumerate(queues.QUEUES):
            database = folder / f"queue{number}.db"
            if queue.name == queues.OURS:
                shutil.copy(folder / "ours.db", database)
            try:
                there[queue.name] = stack.enter_context(queues.looping(queue, database, helpers.get(queue.needs)))
            except CannotStart as error:
                part.missing[queue.name] = f"{error} {part.missing.get(queue.needs, '')}".strip()
        for row, count in CALLERS.items():
            turns: dict[str, Turn] = {name: partial(one.turn, count, pace.seconds) for name, one in there.items()}
            failed: dict[str, str] = {}
            part.rows[row] = alternate(turns, pace.rounds, guard, failed)
            part.missing |= {f"{name}, {row}": why for name, why in failed.items()}


def _http(folder: Path, pace: http.Pace, guard: Guard, missing: dict[str, str]) -> dict[str, Measures]:
    """What a job costs beside a plain POST with one insert, on the same server."""
    try:
        with started(_SERVER, folder) as server:
            for request in _REQUESTS.values():
                warm_up(server, request, 0.3)
            turns = {name: partial(measured, server, request, pace.seconds) for name, request in _REQUESTS.items()}
            return alternate(turns, pace.rounds, guard, missing)
    except CannotStart as error:
        missing[SUBMIT] = str(error)
        return {}


def _queued(folder: Path, pace: http.Pace, guard: Guard, missing: dict[str, str]) -> dict[str, Measures]:
    """From submit to start while so many other jobs wait: delayed ones, and ones of a task that this process does not have."""
    queue = queues.QUEUES[0]
    with contextlib.ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for size in SIZES:
            database = Path(shutil.copy(folder / "ours.db", folder / f"queued{size}.db"))
            filling.queued_jobs(database, size)
            try:
                there = stack.enter_context(queues.looping(queue, database, None))
            except CannotStart as error:
                missing[beside(size)] = str(error)
            else:
                turns[beside(size)] = partial(_start, there, pace.seconds)
        return alternate(turns, pace.rounds, guard, missing)


def _start(there: queues.Looping, seconds: float) -> dict[str, float]:
    found = there.turn(1, seconds)
    return {name: found[name] for name in ("ms to start", "ms to start, p99", "jobs/s")}
