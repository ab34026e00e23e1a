"""Engines as the service builds them, any number on one database, which is a SQLite file or a real PostgreSQL."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_async_api import Settings
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.jobs.background import BackgroundTasks
from quart_async_api.jobs.embedded import EmbeddedEngine
from quart_async_api.jobs.events import EventFeed
from quart_async_api.jobs.liveness import Liveness, liveness
from quart_async_api.jobs.presence import Presence
from quart_async_api.jobs.states import JobRecord
from quart_async_api.jobs.store import JobStore
from quart_async_api.lifecycle import Lifecycle
from quart_async_api.services.submissions import Options, Submissions
from quart_async_api.tasks import Task, registry

from . import sample_tasks

PATIENCE = 15.0
PLAIN = Options()


class Clock:
    """The time, which tests can set."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass(eq=False)
class Service:
    """What app.py makes, without HTTP."""

    settings: Settings
    tasks: Mapping[str, Task]
    clock: Clock
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(self.settings.database_url)
        self.lifecycle = Lifecycle(self.settings.drain_seconds)
        self.commits = GroupCommit(self.database)
        self.store = JobStore(self.database, self.commits)
        self.feed = EventFeed(self.store)
        self.liveness: Liveness = liveness(self.database.url)
        self.presence = Presence(self.store, self.settings, self.liveness, clock=self.clock)
        self.engine = EmbeddedEngine(
            self.store, self.feed, self.tasks, self.settings, {}, self.presence, clock=self.clock
        )
        self.submissions = Submissions(
            self.tasks, self.store, self.engine, self.feed, self.lifecycle, self.settings, clock=self.clock
        )
        self.background = BackgroundTasks()

    async def start(self, *, engine: bool = True) -> None:
        await self.database.start()
        with self.database.bind():
            self.background = BackgroundTasks()
            self.feed.start(self.background)
            if engine:
                await self.start_engine()

    async def start_engine(self) -> None:
        await self.presence.start(self.background)
        await self.engine.start()

    async def stop_engine(self) -> None:
        await self.engine.stop()
        await self.presence.stop()

    async def stop(self) -> None:
        with suppress(Exception):
            await self.stop_engine()
        await self.background.close(grace=2)
        await self.commits.close()
        await self.database.stop()

    async def die(self) -> None:
        """Stop as a killed process would: nothing is said or given back, and the kernel frees the lock."""
        for running in self.engine._runs.values():
            if running.written is not None:
                running.written.cancel()
        await self.engine._background.close(grace=0.1)
        await self.background.close(grace=0.1)
        await self.liveness.release()

    async def submit(self, task_name: str, options: Options = PLAIN, /, **arguments: Any) -> JobRecord:
        task = self.submissions.task(task_name)
        return await self.submissions.submit(task, self.submissions.arguments(task, arguments), options)

    async def wait(self, job: JobRecord) -> JobRecord:
        """The job when it has ended."""
        ended = await self.submissions.wait(job.id, PATIENCE)
        assert ended.status.is_terminal, ended
        return ended

    async def run(self, task_name: str, options: Options = PLAIN, /, **arguments: Any) -> JobRecord:
        return await self.wait(await self.submit(task_name, options, **arguments))

    async def events(self, job: JobRecord) -> list[str]:
        return [event.name for event in await self.store.events(job.id, 0)]


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Let others run until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


Make = Callable[..., Awaitable[Service]]


@pytest.fixture(autouse=True)
def _forget() -> None:
    sample_tasks.reset()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "quart_async_api.jobs.outcomes")


@pytest.fixture
async def make(backend: str) -> AsyncIterator[Make]:
    """Makes and starts services on the one database: `make(engine=False, without=["task"], **settings)`."""
    async with AsyncExitStack() as stack:

        async def make(
            *, engine: bool = True, without: Sequence[str] = (), extra: Sequence[Task] = (), **settings: Any
        ) -> Service:
            given = {
                "database_url": backend,
                "lease_seconds": 0.6,
                "cancel_seconds": 0.3,
                "drain_seconds": 0.3,
                **settings,
            }
            tasks = {name: task for name, task in registry([sample_tasks]).items() if name not in without}
            tasks |= {task.name: task for task in extra}
            service = Service(Settings(**given), tasks, Clock())
            stack.push_async_callback(service.stop)
            await service.start(engine=engine)
            return service

        yield make


@pytest.fixture
async def service(make: Make) -> Service:
    return await make()
