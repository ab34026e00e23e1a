"""The services on a database, with nothing that runs jobs: what the command line works with."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from . import tutorial
from .callbacks.outbox import CallbackOutbox
from .db.connection import Database
from .db.group_commit import GroupCommit, Statement
from .db.migration import check
from .jobs.events import EventFeed
from .jobs.states import JobRecord, timestamp
from .jobs.store import JobStore
from .lifecycle import Lifecycle
from .services.submissions import Submissions
from .settings import Settings
from .tasks import load, registry


class RunsElsewhere:
    """A JobEngine that leaves everything to the servers on the same database, which look into it themselves."""

    async def start(self) -> None: ...

    async def drain(self, grace: float) -> None: ...

    async def stop(self) -> None: ...

    def enqueue(self, job: JobRecord) -> Iterable[Statement]:
        return ()

    def committed(self, job: JobRecord) -> None: ...

    def cancel(self, job_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Offline:
    settings: Settings
    commits: GroupCommit
    store: JobStore
    submissions: Submissions

    def now(self) -> str:
        return timestamp(datetime.now(UTC))


@asynccontextmanager
async def offline(settings: Settings) -> AsyncIterator[Offline]:
    """Connected to the database of `settings`. Raises StartupError."""
    tasks = registry((tutorial, *load(settings.tasks)))
    async with connected(settings) as (database, commits):
        store = JobStore(database, commits, CallbackOutbox(settings))
        lifecycle = Lifecycle(settings.drain_seconds)
        submissions = Submissions(tasks, store, RunsElsewhere(), EventFeed(store), lifecycle, settings)
        yield Offline(settings, commits, store, submissions)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Database, GroupCommit]]:
    """The database of `settings`, at its newest migration. Raises StartupError."""
    database = Database(settings.database_url)
    await database.start()
    try:
        await check(database)
        commits = GroupCommit(database)
        try:
            yield database, commits
        finally:
            await commits.close()
    finally:
        await database.stop()
