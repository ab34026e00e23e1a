"""Part `many_rows`: what a request costs in a database of a million users and jobs, beside one of a thousand."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from . import filling, http
from .figures import Part
from .load import Request, measured, tool, warm_up
from .machine import Guard
from .rounds import Turn, alternate
from .servers import Server, make_databases, started

SIZES = (1_000, 1_000_000)
LIST_USERS, LIST_JOBS, ONE, SUBMIT = "GET /users", "GET /jobs", "GET /jobs/{id}", "POST /jobs"
ROWS = (LIST_USERS, LIST_JOBS, ONE, SUBMIT)

_SERVER = Server(
    "",
    "`quart-async-api serve`, the log at warning",
    http.SERVE,
    "ours",
    "/health/live",
    {"QAA_TASKS": "benchmarks.tasks", "QAA_MAX_USERS": "900000000", "QAA_KEPT_JOBS": "900000000"}
    | {"QAA_KEPT_BYTES": str(1024**5), "QAA_JOB_QUEUE_LIMIT": "1000000"},
)


def beside(size: int) -> str:
    return f"ours, {size:,} rows"


def measure(pace: http.Pace = http.FULL, sizes: tuple[int, ...] = SIZES, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "many_rows",
        "Many rows",
        f"{tool()}; {pace.rounds} rounds of {pace.seconds:g} s. So many users, and so many finished jobs, each with its "
        "attempt and its event. `POST /jobs` is answered by 202, and its job runs. `GET /jobs/{id}` takes the oldest.",
        base=beside(sizes[0]),
        settings={beside(size): _SERVER.shown for size in sizes},
    )
    guard = Guard(20)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, contextlib.ExitStack() as stack:
        running, oldest = {}, {}
        for size in sizes:
            folder = Path(name) / str(size)
            folder.mkdir()
            make_databases(folder, 0)
            filling.users(folder / "ours.db", size)
            filling.finished_jobs(folder / "ours.db", size)
            with contextlib.closing(sqlite3.connect(folder / "ours.db")) as database:
                oldest[size] = database.execute("SELECT MIN(id) FROM jobs").fetchone()[0]
            running[size] = stack.enter_context(started(replace(_SERVER, name=beside(size)), folder))
            say(f"{size:,} rows are there")
        for row in ROWS:
            turns: dict[str, Turn] = {}
            for size, server in running.items():
                warm_up(server, _request(row, oldest[size]), 0.3)
                turns[beside(size)] = partial(measured, server, _request(row, oldest[size]), pace.seconds)
            failed: dict[str, str] = {}
            part.rows[row] = alternate(turns, pace.rounds, guard, failed)
            part.missing |= {f"{contender}, {row}": why for contender, why in failed.items()}
            say(f"{row}: " + ", ".join(f"{one['requests/s'][0]:,.0f}/s" for one in part.rows[row].values()))
    return part.finish(guard)


def _request(row: str, oldest: str) -> Request:
    if row == SUBMIT:
        return Request("/jobs", "POST", '{"task": "noop"}', {"Content-Type": "application/json"})
    return Request(f"/jobs/{oldest}" if row == ONE else row.removeprefix("GET "))
