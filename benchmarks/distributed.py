"""Part `distributed`: durable jobs of 1, 2 and 4 workers on one PostgreSQL, beside other engines on the same server.

One process submits the jobs and runs none; the workers run them and submit none. Each engine has a database of its own. Only
the engine whose turn it is runs: the processes of the others are stopped meanwhile.

What each engine keeps of a job, in the same durability (each commit is flushed):

- ours: a row with arguments, result and owner, an event, an attempt, counters for quotas. A lost run cannot write. Owners take
  turns. The caller gets the recorded result, from any process. `embedded` finds work in the jobs, `distributed` by tickets.
- procrastinate: a row, and three rows of history by triggers. No result, no fence.
- saq: a row that holds the job and its result as one document. Nothing takes over from a process that died before the
  job's timeout.
- DBOS: a workflow with its result, and steps that are not repeated after a crash, which a job without steps does not use.
  Nothing wakes it for a queued job, so it polls. A job of a dead process waits until that process is back.

The caller of ours waits for the recorded result. That of the others waits until the function has run.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import psutil
import psycopg

from quart_async_api import Settings
from quart_async_api.jobs.engines import upgrade
from quart_async_api.settings import JobsEngine

from . import http, queues
from .figures import Part
from .machine import ALL_CORES, Guard, cpu_seconds
from .queues import Helper, Looping, Queue
from .rounds import Turn, alternate
from .servers import CannotStart
from .wire import relay

OURS, EMBEDDED = "ours, distributed", "ours, embedded"
PROCRASTINATE, SAQ, DBOS = "procrastinate", "saq", "DBOS"
SIZES = (1, 2, 4)
CALLERS = 100  # of all processes together
ALONE_SECONDS = 0.6  # of each turn, with one caller
PACE = http.Pace(1.5, 5, 20)
_OURS = ("benchmarks.distributed_ours", "postgresql")
_POLLS = "looks every {} s for what no wake-up told"
QUEUES = (
    Queue(OURS, "QAA_JOBS_ENGINE=distributed", *_OURS, (("BENCH_ENGINE", "distributed"),)),
    Queue(EMBEDDED, "QAA_JOBS_ENGINE=embedded", *_OURS, (("BENCH_ENGINE", "embedded"),)),
    Queue(PROCRASTINATE, f"LISTEN; {_POLLS.format(0.5)}, as ours does", "jobs_procrastinate.py", "postgresql",
          (("BENCH_POLL", "0.5"),)),
    Queue(SAQ, "its PostgreSQL queue; LISTEN", "jobs_saq.py", "postgresql"),
    Queue(DBOS, "a queue of workflows, polled every 0.02 s: 0.05 and 0.1 s gave fewer jobs, its default is 1 s",
          "jobs_dbos_queue.py", "postgresql", (("BENCH_POLL", "0.02"),)),
)  # fmt: skip


def row(size: int) -> str:
    return f"{size} worker{'s' if size > 1 else ''}"


UNITS = "what a job costs, 2 workers"
UNITS_ALONE = f"{UNITS}, one caller"


def measure(
    pace: http.Pace = PACE,
    say: Callable[[str], None] = print,
    sizes: Sequence[int] = SIZES,
    contenders: Sequence[Queue] = QUEUES,
) -> Part:
    part = Part(
        "distributed",
        "Durable no-op jobs of several workers on one PostgreSQL",
        f"{CALLERS} callers in a closed loop in a process that runs no jobs, and workers that run up to 100 each. All share "
        f"the cores with PostgreSQL, which flushes each commit. {pace.rounds} rounds of {pace.seconds:g} s. Submit to start: "
        f"with one caller, {ALONE_SECONDS:g} s of each round. The last two rows are counted by a relay in front of PostgreSQL.",
        base=PROCRASTINATE,
        settings={queue.name: queue.settings for queue in contenders},
    )
    guard = Guard(pace.spare)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        helper = stack.enter_context(queues.postgresql(folder, sys.executable, ALL_CORES))
        databases = {queue.name: database(helper, f"bench_{number}") for number, queue in enumerate(contenders)}
        for size in sizes:
            turns: dict[str, Turn] = {}
            with contextlib.ExitStack() as fleets:
                for queue in contenders:
                    try:
                        fleet = fleets.enter_context(_fleet(queue, folder, databases[queue.name], size))
                    except CannotStart as error:
                        part.missing[queue.name] = str(error)
                    else:
                        turns[queue.name] = partial(_turn, fleet, helper, pace.seconds)
                part.rows[row(size)] = alternate(turns, pace.rounds, guard, part.missing)
        for number, queue in enumerate(contenders):
            if queue.name not in part.missing:
                _units(part, queue, folder, database(helper, f"bench_units_{number}"), pace)
    for name, found in part.rows.items():
        for contender, measures in found.items():
            say(f"{name:42}{contender:18}" + "".join(f"{values[0]:12,.2f} {unit}" for unit, values in measures.items()))
    return part.finish(guard)


def database(helper: Helper, name: str) -> Helper:
    """A new database of the server, with our tables: they take no room, and the others have names of their own."""
    with psycopg.connect(helper.environ["BENCH_POSTGRESQL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = helper.environ["BENCH_POSTGRESQL"].replace("@/postgres?", f"@/{name}?")
    return Helper(helper.process, {"BENCH_POSTGRESQL": url})


@contextlib.contextmanager
def _fleet(queue: Queue, folder: Path, helper: Helper, size: int) -> Iterator[list[Looping]]:
    """A caller and so many workers, which are stopped outside of their turns. Raises CannotStart."""
    if queue.script == _OURS[0]:
        engine = JobsEngine(dict(queue.environ)["BENCH_ENGINE"])
        asyncio.run(upgrade(Settings(database_url=helper.environ["BENCH_POSTGRESQL"], jobs_engine=engine)))
    with contextlib.ExitStack() as stack:
        fleet: list[Looping] = []
        for role in (*("worker" for _ in range(size)), "caller"):
            one = replace(queue, environ=(*queue.environ, ("BENCH_ROLE", role)))
            log = folder / f"{queue.name}-{size}-{len(fleet)}.db"
            fleet.append(stack.enter_context(queues.looping(one, log, helper, ALL_CORES)))
        _signal(fleet, SIGSTOP)
        try:
            yield fleet
        finally:
            _signal(fleet, SIGCONT)


def _signal(fleet: Sequence[Looping], number: int) -> None:
    for one in fleet:
        one.process.send_signal(number)


@contextlib.contextmanager
def _awake(fleet: Sequence[Looping]) -> Iterator[None]:
    _signal(fleet, SIGCONT)
    try:
        yield
    finally:
        _signal(fleet, SIGSTOP)


def _turn(fleet: Sequence[Looping], helper: Helper, seconds: float) -> dict[str, float]:
    caller = fleet[-1]
    with _awake(fleet):
        caller.begin(1, ALONE_SECONDS)
        alone = caller.found()
        ours, theirs = [psutil.Process(one.process.pid) for one in fleet], _server(helper)
        before = sum(map(cpu_seconds, ours)), cpu_seconds(theirs)
        caller.begin(CALLERS, seconds)
        found = caller.found()
        cpu = sum(map(cpu_seconds, ours)) - before[0], cpu_seconds(theirs) - before[1]
    return {
        "jobs/s": found["jobs/s"],
        "ms to start": alone["ms to start"],
        "CPU ms each": sum(cpu) / found["jobs"] * 1000,
        "CPU ms each, PostgreSQL": cpu[1] / found["jobs"] * 1000,
    }


def _server(helper: Helper) -> psutil.Process:
    with psycopg.connect(helper.environ["BENCH_POSTGRESQL"]) as connection:
        server = psutil.Process(connection.info.backend_pid).parent()
    assert server is not None
    return server


def _units(part: Part, queue: Queue, folder: Path, helper: Helper, pace: http.Pace) -> None:
    """Count what a job asks of PostgreSQL. No noise changes these counts, but for polls and for how many jobs share a batch."""
    url = helper.environ["BENCH_POSTGRESQL"]
    address, _, server = url.partition("host=")
    with tempfile.TemporaryDirectory(prefix="qaa-relay-") as name, relay(Path(name), Path(server)) as counted:
        relayed = Helper(helper.process, {"BENCH_POSTGRESQL": f"{address}host={name}"})
        with _fleet(queue, folder, relayed, 2) as fleet, _awake(fleet):
            for shown, callers in ((UNITS, CALLERS), (UNITS_ALONE, 1)):
                before = counted.statements, counted.round_trips, counted.octets, *_written(url)
                fleet[-1].begin(callers, pace.seconds)
                jobs = fleet[-1].found()["jobs"]
                after = counted.statements, counted.round_trips, counted.octets, *_written(url)
                each = [[(now - then) / jobs] for now, then in zip(after, before, strict=True)]
                part.rows.setdefault(shown, {})[queue.name] = dict(zip(_COUNTED, each, strict=True))


_COUNTED = (
    "statements each", "round trips each", "bytes on the wire each", "WAL bytes each", "transactions each", "bytes stored each",
)  # fmt: skip


def _written(url: str) -> tuple[float, float, float]:
    """Bytes of WAL, transactions with those that only read, and bytes on disk."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, "
            "(SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()), "
            "pg_database_size(current_database())::float8"
        ).fetchone()
        assert found is not None
        return found
