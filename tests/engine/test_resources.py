"""A task that misses a resource waits for it in the queue, and spends no attempt."""

import asyncio
import logging

import pytest

from quart_async_api.errors import ResourceMissing
from quart_async_api.jobs import runs as runs_module
from quart_async_api.jobs.states import Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, ThreadContext, task

from .conftest import Make, until
from .sample_tasks import executions, gate, running


class Pool:
    """What the tasks need."""


@task("use-pool", retries=3, retryable=(LookupError,))
async def use_pool(ctx: TaskContext, *, first: str = "") -> int:
    """Ask for the pool, perhaps when a gate is open."""
    executions[ctx.job_id] += 1
    if first:
        running.add(ctx.job_id)
        await gate(first).wait()
    ctx.resource(Pool)
    return ctx.attempt


@task("use-pool-in-thread", run_in="thread")
def use_pool_in_thread(ctx: ThreadContext) -> int:
    """Ask for the pool in a thread."""
    ctx.resource(Pool)
    return ctx.attempt


TASKS = (use_pool, use_pool_in_thread)


@pytest.fixture(params=["embedded", "tickets"])
def job_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Not here."""
    caplog.set_level(logging.INFO, "quart_async_api")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if "Pool" in line.getMessage()]


@pytest.mark.parametrize("name", ["use-pool", "use-pool-in-thread"])
async def test_a_job_that_missed_a_resource_failed_for_good(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(runs_module, "UNREADY_SECONDS", 0.2)
    service = await make(extra=TASKS)
    job = await service.submit(name)
    await until(lambda: bool(warnings(caplog)))
    service.resources[Pool] = Pool()
    ended = await service.wait(job)
    assert (ended.status, ended.attempt, ended.failures, ended.result) == (Status.SUCCEEDED, 1, 0, "1")
    assert await service.events(job) == ["succeeded"]
    line = warnings(caplog)[0]
    assert job.id in line
    assert "no Pool" in line
    assert {record.levelno for record in caplog.records if "Pool" in record.getMessage()} == {logging.WARNING}


async def test_jobs_that_miss_a_resource_are_not_begun_again_and_again_and_hold_no_other_up(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(extra=TASKS, job_concurrency=2)
    jobs = [await service.submit("use-pool", Options(priority=50)) for _ in range(20)]
    for number in range(10):  # the last of the queue
        assert (await service.run("double", number=number)).status is Status.SUCCEEDED
    assert sum(executions[job.id] for job in jobs) <= 2, "those that had begun when the first one missed it"
    assert len(warnings(caplog)) == 1
    for job in jobs:
        waiting = await service.store.reading.get(job.id, None)
        assert (waiting.status, waiting.attempt, waiting.started_at) == (Status.QUEUED, 0, None)


async def test_another_process_that_has_the_resource_takes_the_job_at_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    without = await make(extra=TASKS)
    job = await without.submit("use-pool")
    await until(lambda: bool(warnings(caplog)))
    has_it = await make(extra=TASKS, engine=False)
    has_it.resources[Pool] = Pool()
    with has_it.database.bind():
        await has_it.start_engine()
    ended = await has_it.wait(job)
    assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)


async def test_a_job_that_misses_a_resource_can_be_cancelled(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    service = await make(extra=TASKS)
    queued = await service.submit("use-pool")
    await until(lambda: bool(warnings(caplog)))
    await service.submissions.cancel(queued.id)
    assert (await service.wait(queued)).status is Status.CANCELLED
    service.runs._unready.clear()
    begun = await service.submit("use-pool", first="gate")
    await until(lambda: begun.id in running)
    asked = asyncio.create_task(service.submissions.cancel(begun.id))
    gate("gate").set()
    await asked
    assert (await service.wait(begun)).status is Status.CANCELLED


def test_a_missing_resource_is_a_lookup_error_that_names_it() -> None:
    assert isinstance(ResourceMissing("Pool"), LookupError)
    assert str(ResourceMissing("Pool")) == "this process has no Pool"
