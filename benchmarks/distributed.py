"""Part `distributed`: jobs of 1, 2 and 4 processes on one PostgreSQL, and what each job costs the database."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import psycopg

from quart_async_api.db.migration import upgrade

from . import http, queues
from .figures import Part
from .machine import Guard, cpu_seconds
from .rounds import Turn, alternate
from .servers import CannotStart

OURS, PEER = "ours, embedded", "procrastinate"
SIZES = (1, 2, 4)
CALLERS = 100  # of all processes together
PACE = http.Pace(2, 5, 30)
_OURS = queues.Queue(
    OURS, "each process submits and runs; result recorded and read", "benchmarks.distributed_ours", "postgresql"
)
_PEER = next(queue for queue in queues.QUEUES if queue.script == "jobs_procrastinate.py")


def measure(pace: http.Pace = PACE, say: Callable[[str], None] = print, sizes: Sequence[int] = SIZES) -> Part:
    part = Part(
        "distributed",
        "Durable no-op jobs of several processes on one PostgreSQL",
        f"{CALLERS} callers in a closed loop, shared by the processes; PostgreSQL flushes each commit. "
        f"{pace.rounds} rounds of {pace.seconds:g} s. The CPU seconds are those of the processes and of PostgreSQL.",
        base=OURS,
        settings={OURS: _OURS.settings, PEER: _PEER.settings},
    )
    guard = Guard(pace.spare)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, contextlib.ExitStack() as stack:
        helper = stack.enter_context(queues.postgresql(Path(name), sys.executable))
        url = helper.environ["BENCH_POSTGRESQL"]
        asyncio.run(upgrade(url))
        for size in sizes:
            turns: dict[str, Turn] = {}
            with contextlib.ExitStack() as fleets:
                for shown, queue in ((OURS, _OURS), (PEER, _PEER)):
                    try:
                        fleet = fleets.enter_context(_fleet(queue, Path(name), helper, size))
                    except CannotStart as error:
                        part.missing[shown] = str(error)
                    else:
                        turns[shown] = partial(_turn, fleet, helper, pace.seconds)
                row = f"{size} process{'es' if size > 1 else ''}"
                part.rows[row] = alternate(turns, pace.rounds, guard, part.missing)
            for contender, found in part.rows[row].items():
                say(f"{row:14}{contender:18}" + "".join(f"{values[0]:12,.2f} {unit}" for unit, values in found.items()))
    return part.finish(guard)


@contextlib.contextmanager
def _fleet(queue: queues.Queue, folder: Path, helper: queues.Helper, size: int) -> Iterator[list[queues.Looping]]:
    with contextlib.ExitStack() as stack:
        names = [folder / f"{queue.script}-{size}-{number}.db" for number in range(size)]
        yield [stack.enter_context(queues.looping(queue, name, helper)) for name in names]


def _turn(fleet: list[queues.Looping], helper: queues.Helper, seconds: float) -> dict[str, float]:
    """What all processes do at the same time."""
    processes = [*(psutil.Process(one.process.pid) for one in fleet), _server(helper)]
    before, counted = sum(map(cpu_seconds, processes)), _counted(helper)
    for one in fleet:
        assert one.process.stdin
        one.process.stdin.write(f"{CALLERS // len(fleet)} {seconds}\n")
        one.process.stdin.flush()
    found = [json.loads(one.line()) for one in fleet]
    jobs = sum(one["jobs"] for one in found)
    cpu = sum(map(cpu_seconds, processes)) - before
    wal, commits = (after - then for after, then in zip(_counted(helper), counted, strict=True))
    return {
        "jobs/s": sum(one["jobs/s"] for one in found),
        "ms to start": max(one["ms to start"] for one in found),
        "CPU s per 1,000": cpu / jobs * 1000,
        "WAL bytes each": wal / jobs,
        "transactions each": commits / jobs,
    }


def _server(helper: queues.Helper) -> psutil.Process:
    with psycopg.connect(helper.environ["BENCH_POSTGRESQL"]) as connection:
        server = psutil.Process(connection.info.backend_pid).parent()
    assert server is not None
    return server


def _counted(helper: queues.Helper) -> tuple[float, float]:
    """Bytes of WAL, and transactions with those that only read."""
    with psycopg.connect(helper.environ["BENCH_POSTGRESQL"], autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, "
            "(SELECT SUM(xact_commit)::float8 FROM pg_stat_database)"
        ).fetchone()
        assert row is not None
        return row[0], row[1]
