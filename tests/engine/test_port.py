"""The port of a job engine, by a second one: every change that queues a job tells it, in the transaction of that change."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from quart_async_api.db.group_commit import Unit
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.scheduler import Scheduler
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, task

from .conftest import PATIENCE, Make, Service, queued_in_every_way, until
from .tickets import TicketDispatch, exchange, take

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job_engine() -> str:
    return "tickets"


async def tickets(service: Service) -> list[str]:
    return [row["job_id"] for row in await service.database.read("SELECT job_id FROM tickets ORDER BY number")]


@asynccontextmanager
async def puller(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that runs jobs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine.tickets", url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"pulls\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_every_way_into_the_queue_writes_a_ticket(make: Make) -> None:
    service = await make(engine=False)
    ways = 0
    async for job in queued_in_every_way(service):
        ways += 1
        assert await tickets(service) == [job.id] * ways
    assert ways == 5
    await service.submissions.cancel(job.id)
    assert await tickets(service) == []
    again = await service.submissions.retry(job.id)
    assert await tickets(service) == [again.id]


async def test_a_schedule_writes_a_ticket(make: Make) -> None:
    @task("each-minute", schedule="* * * * *")
    async def each_minute(ctx: TaskContext) -> str:
        """Run by the clock."""
        return "on time"

    service = await make(extra=[each_minute])
    [job] = await Scheduler(service.store, service.tasks, clock=service.clock).fire()
    assert (await service.wait(job)).result == '"on time"'


async def test_a_job_that_waits_for_its_slot_gets_its_ticket_when_the_slot_is_free(make: Make) -> None:
    @task("one-at-a-time", concurrency=1)
    async def one_at_a_time(ctx: TaskContext) -> None:
        """Run alone."""

    service = await make(engine=False, extra=[one_at_a_time])
    first, second = await service.submit("one-at-a-time"), await service.submit("one-at-a-time")
    assert await tickets(service) == [first.id]
    await service.submissions.cancel(first.id)
    assert await tickets(service) == [second.id]
    await service.start_engine()
    assert (await service.wait(second)).status is Status.SUCCEEDED


async def test_a_job_whose_ticket_cannot_be_written_is_not_accepted(make: Make) -> None:
    service = await make(engine=False)

    def unit() -> Unit[None]:
        yield ("DROP TABLE tickets", ())

    await service.commits.run(unit)
    with pytest.raises(Exception, match="tickets") as raised:
        await service.submit("double", number=1)
    assert not isinstance(raised.value, DatabaseUnavailable)
    assert await service.store.reading.page(10, None) == []


async def test_the_signal_comes_after_the_commit_and_names_what_was_written(make: Make) -> None:
    class Watching(TicketDispatch):
        def committed(self, job: JobRecord) -> None:
            signals.append((job.id, job.status))

    signals: list[tuple[str, Status]] = []
    service = await make(engine=False)
    service.store.transitions._units._dispatch = service.store.submission._units._dispatch = Watching()
    job = await service.submit("double", number=1)
    await service.submissions.cancel(job.id)
    assert signals == [(job.id, Status.QUEUED), (job.id, Status.CANCELLED)]


async def test_a_signal_that_failed_was_told_to_the_caller_of_a_job_that_was_committed(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TicketDispatch):
        def committed(self, job: JobRecord) -> None:
            raise ConnectionError("the broker is away")

    caplog.set_level(logging.ERROR, "quart_async_api.jobs.units")
    service = await make(engine=False)
    service.store.submission._units._dispatch = Broken()
    job = await service.submit("double", number=1)
    [line] = [line for line in caplog.records if job.id in line.getMessage()]
    assert line.exc_info is not None
    await service.start_engine()
    assert (await service.wait(job)).status is Status.SUCCEEDED


async def test_a_ticket_for_a_job_that_runs_has_ended_or_is_unknown_begins_nothing(make: Make) -> None:
    service = await make(engine=False)
    await service.presence.start(service.background)
    job = await service.submit("hold")

    async def pulled() -> tuple[int, int]:
        return await service.runs.take_tickets(9, partial(take, service.now()), exchange)

    assert await pulled() == (1, 1)
    for stale in (job, job._replace(id=new_id())):
        await service.commits.run(lambda stale=stale: TicketDispatch().queued(stale))  # type: ignore[misc]
        assert await pulled() == (1, 0)
    await service.submissions.cancel(job.id)
    service.runs.cancel(job.id)
    assert (await service.wait(job)).status is Status.CANCELLED
    await service.commits.run(lambda: TicketDispatch().queued(job))
    assert await pulled() == (1, 0)
    assert await tickets(service) == []


@pytest.mark.process
async def test_another_process_runs_what_this_one_submits_and_stops_what_this_one_cancels(
    make: Make, backend: str
) -> None:
    service = await make(engine=False)
    async with puller(backend):
        assert (await service.run("double", number=4)).result == "8"
        assert (await service.run("flaky", failures=2)).attempt == 3
        late = await service.run("double", Options(run_at=service.submissions.later(0.2)), number=1)
        assert (late.finished_at or "") >= late.run_at
        job = await service.submit("hold")
        await until(lambda: _runs(service, job))
        await service.submissions.cancel(job.id)
        assert (await service.wait(job)).status is Status.CANCELLED


@pytest.mark.process
async def test_what_a_killed_process_ran_is_pulled_by_the_next(make: Make, backend: str) -> None:
    service = await make(engine=False)
    async with puller(backend) as first:
        job = await service.submit("hold-once")
        await until(lambda: _runs(service, job))
        first.kill()
        await first.wait()
        async with puller(backend) as second:
            ended = await service.wait(job)
            assert (ended.status, ended.attempt, ended.crashes) == (Status.SUCCEEDED, 2, 1)
            held = await service.submit("hold")
            await until(lambda: _runs(service, held))
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == 0
            given_back = await service.store.reading.get(held.id, None)
            assert (given_back.status, given_back.attempt) == (Status.QUEUED, 0)
            assert await tickets(service) == [held.id]


async def _runs(service: Service, job: JobRecord) -> bool:
    return (await service.store.reading.get(job.id, None)).status is Status.RUNNING
