"""Engines as the service builds them, any number on one database, which is a SQLite file or a real PostgreSQL."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from quart_async_api import Settings
from quart_async_api import service as services
from quart_async_api.background.tasks import BackgroundTasks
from quart_async_api.jobs import distributed, embedded, presence, runs
from quart_async_api.jobs.states import JobRecord
from quart_async_api.moments import ServiceClock
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import Task, registry
from tests.postgresql import DISTRIBUTED, MIGRATED, ON_BOTH, PostgreSQL

from . import sample_tasks, tickets

PATIENCE = 60.0
PLAIN = Options()
OWN_POSTGRESQL = pytest.param("own_postgresql", marks=pytest.mark.process)


class Service(services.Service):
    """One whose parts tests start one by one, and that can die."""

    clock: ServiceClock

    def __init__(self, settings: Settings, tasks: Mapping[str, Task], clock: ServiceClock, **outside: Any) -> None:
        super().__init__(settings, tasks, clock=clock, **outside)
        self.background = BackgroundTasks()

    async def start(self, *, engine: bool = True) -> None:
        await self.database.start()
        with self.database.bind():
            self.background = BackgroundTasks()
            self.feed.start(self.background)
            _ = self.engine  # made now: it listens to wake-ups, and sends those of a service that does not start it
            if self.database.url.file is None:
                await self.notifications.check()  # now: what it wakes would else be counted by a test
                self.background.spawn(self._hearing.run(), name="wake-ups")
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
        self.notifications.close()
        await self.commits.close()
        await self.database.stop()

    async def die(self) -> None:
        """Stop as a killed process would: nothing is said or given back, and the kernel frees the lock."""
        for run in self.runs._runs.values():
            run.life.cancel()
        await self.engine._background.close(grace=0.1)  # type: ignore[attr-defined]
        await self.runs._background.close(grace=0.1)
        await self.background.close(grace=0.1)
        self.notifications.close()
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
        return [event.name for event in await self.store.history.events(job.id, 0)]


async def queued_in_every_way(service: Service) -> AsyncIterator[JobRecord]:
    """Queue a job by each change that can: submission, retry, give-back, crash and burial. Yield it each time."""
    write, now, worker = service.store.transitions, service.now(), service.presence.id
    await service.store.workers.register(worker, now)

    async def claimed() -> str:
        [taken] = await service.store.claims.claim(tuple(service.tasks), 1, worker, now, lambda: "token")
        return taken.run_token or ""

    job = await service.submit("flaky", failures=0)
    yield job
    await write.retry(job.id, await claimed(), now, now, '{"title": "failed"}', 60)
    yield job
    await write.give_back(job.id, await claimed(), now, 60)
    yield job
    await service.store.crashes.crash(job.id, await claimed(), now, 60, 9, '{"title": "crashed"}')
    yield job
    await claimed()
    await service.store.crashes.bury(worker, now, 60, 9, '{"title": "crashed"}')
    yield job


async def until(condition: Callable[[], bool | Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Let others run until the condition holds."""
    async with asyncio.timeout(patience):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


Make = Callable[..., Awaitable[Service]]
RARELY = {"lease_seconds": 3600}  # with `rare_rounds`: no heartbeat either


@pytest.fixture(autouse=True)
def _forget() -> None:
    sample_tasks.reset()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "quart_async_api.jobs.outcomes")


@pytest.fixture(autouse=True)
def _long_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a stop all the time that a busy machine takes to write what has ended."""
    for module in (distributed, embedded, runs):
        monkeypatch.setattr(module, "FAREWELL_SECONDS", PATIENCE / 2)


@pytest.fixture
def rare_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each loop of an engine have its first round alone: on a busy machine, others would fall into what a test counts."""
    for module, name in (
        (distributed, "POLL_SECONDS"),
        (embedded, "SWEEP_SECONDS"),
        (presence, "SWEEP_SECONDS"),
        (runs, "CHECK_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 3600.0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the distributed engine on SQLite, which it does not run on."""
    items[:] = [item for item in items if not _is_impossible(getattr(item, "callspec", None))]


def _is_impossible(call: Any) -> bool:
    given = {} if call is None else call.params
    return given.get("job_engine") == "distributed" and given.get("backend") == "sqlite"


@pytest.fixture
def job_engine() -> str:
    """`embedded`, `tickets` or `distributed`: modules of conformance tests have all three."""
    return "embedded"


@pytest.fixture(params=ON_BOTH)
def backend(request: pytest.FixtureRequest, job_engine: str) -> Iterator[str]:
    """The URL of a database without rows, that this engine can use; of a server of the test's own, with OWN_POSTGRESQL."""
    if request.param == "sqlite":
        yield f"sqlite://{request.getfixturevalue('database_file')}"
        return
    server: PostgreSQL = request.getfixturevalue(request.param)
    with server.database(DISTRIBUTED if job_engine == "distributed" else MIGRATED) as url:
        yield url


@pytest.fixture
async def make(backend: str, job_engine: str) -> AsyncIterator[Make]:
    """Makes and starts services on the one database: `make(engine=False, without=["task"], **settings)`."""
    if job_engine == "tickets":
        await tickets.create_tables(backend)
    async with AsyncExitStack() as stack:

        async def make(
            *, engine: bool = True, without: Sequence[str] = (), extra: Sequence[Task] = (), **settings: Any
        ) -> Service:
            given = {
                "database_url": backend,
                "lease_seconds": 0.6,
                "cancel_seconds": 0.3,
                "drain_seconds": 0.3,
                "jobs_engine": "distributed" if job_engine == "distributed" else "embedded",
                **settings,
            }
            tasks = {name: task for name, task in registry([sample_tasks]).items() if name not in without}
            tasks |= {task.name: task for task in extra}
            outside: dict[str, Any] = (
                {"dispatch": tickets.TicketDispatch(), "engine": tickets.TicketEngine}
                if job_engine == "tickets"
                else {}
            )
            service = Service(Settings(**given), tasks, ServiceClock(), **outside)
            stack.push_async_callback(service.stop)
            await service.start(engine=engine)
            return service

        yield make


@pytest.fixture
async def service(make: Make) -> Service:
    return await make()
