"""A second job engine, deliberately unlike the embedded one: it hands out jobs by tickets, one row for each in a table.

It shows that the port is enough: it never looks for work in the jobs table. A process that only submits has `TicketDispatch`
alone; one that runs jobs pulls tickets. Run as a program, this module is such a process: `python -m tests.engine.tickets URL`.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from quart_async_api import Settings
from quart_async_api.background.loops import Loop
from quart_async_api.background.tasks import BackgroundTasks
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit, Unit
from quart_async_api.jobs.runs import Runs
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.service import Service
from quart_async_api.tasks import registry

from . import sample_tasks

PULL_SECONDS = 0.02
_TABLES = (
    "CREATE TABLE IF NOT EXISTS tickets (number {serial}, job_id TEXT NOT NULL, task TEXT NOT NULL, urgency INT NOT NULL, "
    "due TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS stops (job_id TEXT PRIMARY KEY)",
)


async def create_tables(url: str) -> None:
    """As a migration of the engine would."""
    database = Database(url)
    serial = "INTEGER PRIMARY KEY" if database.url.file is not None else "SERIAL PRIMARY KEY"
    await database.start()
    try:
        commits = GroupCommit(database)

        def unit() -> Unit[None]:
            for table in _TABLES:
                yield (table.format(serial=serial), ())

        await commits.run(unit)
        await commits.close()
    finally:
        await database.stop()


class TicketDispatch:
    """Writes a ticket beside each job that becomes queued, and a stop beside each request for cancellation."""

    def queued(self, job: JobRecord) -> Unit[None]:
        if job.stage != "held":  # it gets one when its slot is free
            yield (
                "INSERT INTO tickets (job_id, task, urgency, due) VALUES (?, ?, ?, ?)",
                (job.id, job.task, job.urgency, job.run_at),
            )

    def paused(self, job_ids: Sequence[str]) -> Unit[None]:
        yield (f"DELETE FROM tickets WHERE job_id IN ({_marks(job_ids)})", job_ids)  # noqa: S608

    def cancelled(self, job: JobRecord) -> Unit[None]:
        yield ("DELETE FROM tickets WHERE job_id = ?", (job.id,))
        if job.status is Status.RUNNING:
            yield ("INSERT INTO stops (job_id) VALUES (?) ON CONFLICT (job_id) DO NOTHING", (job.id,))

    def committed(self, job: JobRecord) -> None:
        """The puller is another process: it polls."""


class TicketEngine:
    """Pulls tickets in their order, and claims as many jobs."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._database = runs.store.database
        self._background = BackgroundTasks()
        self.loops = (Loop("puller", self._pull, every=PULL_SECONDS),)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._background = BackgroundTasks()
        self._runs.start()
        self._tasks = [self._background.spawn(loop.run(), name=loop.name) for loop in self.loops]

    async def drain(self, grace: float) -> None:
        for loop in self.loops:
            loop.end()
        self._runs.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(grace, 0.25))
        await self._runs.drain(grace)

    async def stop(self) -> None:
        await self._runs.stop()
        await self._background.close(grace=0.25)

    async def _pull(self) -> None:
        for row in await self._database.read("SELECT job_id FROM stops"):
            self._runs.cancel(row["job_id"])
        if self._runs.free > 0:
            await self._runs.take_tickets(self._runs.free, partial(take, self._runs.now()), exchange)


def take(now: str, tasks: Sequence[str], limit: int) -> Unit[list[str]]:
    due = yield (
        f"SELECT number, job_id FROM tickets WHERE due <= ? AND task IN ({_marks(tasks)}) "  # noqa: S608
        "ORDER BY urgency, number LIMIT ? /*FOR UPDATE SKIP LOCKED*/",
        (now, *tasks, limit),
    )
    for row in due.rows:
        yield ("DELETE FROM tickets WHERE number = ?", (row["number"],))
    return [row["job_id"] for row in due.rows]


def exchange(claimed: Sequence[str], left: Sequence[str]) -> Unit[None]:
    yield (f"DELETE FROM tickets WHERE job_id IN ({_marks(claimed)})", claimed)  # noqa: S608
    yield (
        "INSERT INTO tickets (job_id, task, urgency, due) SELECT id, task, urgency, run_at FROM jobs "  # noqa: S608
        f"WHERE id IN ({_marks(left)}) AND status = 'queued' AND stage IN ('ready', 'delayed')",
        left,
    )


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values) or "NULL"


async def pull(url: str) -> None:
    """Run jobs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(database_url=url, lease_seconds=0.6, cancel_seconds=0.3, drain_seconds=0.3)
    tasks = registry([sample_tasks])
    async with Service(settings, tasks, dispatch=TicketDispatch(), engine=TicketEngine).opened() as service:
        with service.database.bind():
            async with service.running():
                sys.stdout.write("pulls\n")
                sys.stdout.flush()
                await stop.wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(pull(sys.argv[1]))
