"""A task that misses a resource waits for it in the queue, and spends no attempt."""

import asyncio
import logging

import pytest

from quart_async_api.errors import ResourceMissing
from quart_async_api.jobs import readiness
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


class NoLicence(ResourceMissing):
    """An app's own, that says no name."""

    def __init__(self) -> None:
        Exception.__init__(self, "no licence")


class Moody(type):
    """Fails where somebody asks what is an instance of its classes."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise ZeroDivisionError


class Odd(Exception, metaclass=Moody):
    """What cannot be compared to an error."""


async def _use(ctx: TaskContext) -> None:
    ctx.resource(Pool)


@task("use-pool-somehow")
async def use_pool_somehow(ctx: TaskContext, *, how: str) -> int:
    """Ask for the pool where its absence becomes another error."""
    if how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(_use(ctx))
    try:
        await _use(ctx)
    except LookupError as missing:
        if how == "cause":
            raise RuntimeError("no pool") from missing
        if how == "context":
            raise RuntimeError("no pool")  # noqa: B904
        if how == "hidden":
            raise RuntimeError("no pool") from None
        await asyncio.sleep(60)  # until its timeout
    return ctx.attempt


@task("no-licence")
async def no_licence(ctx: TaskContext) -> int:
    """Miss what only the app knows."""
    raise NoLicence


@task("odd", retryable=(Odd,))
async def odd(ctx: TaskContext) -> None:
    """Fail with an error that cannot be looked at."""
    raise ValueError


TASKS = (use_pool, use_pool_in_thread, use_pool_somehow, no_licence, odd)


@pytest.fixture(params=["embedded", "tickets", "distributed"])
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
    monkeypatch.setattr(readiness, "UNREADY_SECONDS", 0.2)
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


@pytest.mark.parametrize("how", ["group", "cause", "context"])
async def test_a_job_failed_for_good_where_its_task_made_another_error_of_the_missing_resource(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    monkeypatch.setattr(readiness, "UNREADY_SECONDS", 0.2)
    service = await make(extra=TASKS)
    job = await service.submit("use-pool-somehow", how=how)
    await until(lambda: bool(warnings(caplog)))
    service.resources[Pool] = Pool()
    ended = await service.wait(job)
    assert (ended.status, ended.attempt, ended.failures) == (Status.SUCCEEDED, 1, 0)


async def test_a_task_that_hides_the_missing_resource_or_goes_on_until_its_timeout_fails(make: Make) -> None:
    service = await make(extra=TASKS)
    for how, error in (("hidden", "task-failed"), ("timeout", "task-timeout")):
        ended = await service.run("use-pool-somehow", Options(timeout=0.1), how=how)
        assert (ended.status, ended.attempt) == (Status.FAILED, 1)
        assert f"/problems/{error}" in str(ended.error)


async def test_a_missing_resource_of_the_apps_own_without_a_name_was_told_as_a_self_cancellation(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(extra=TASKS)
    job = await service.submit("no-licence")
    await until(lambda: any("has no such resource" in line.getMessage() for line in caplog.records))
    await until(lambda: len(service.runs) == 0)
    waiting = await service.store.reading.get(job.id, None)
    assert (waiting.status, waiting.attempt) == (Status.QUEUED, 0)


async def test_an_error_that_cannot_be_looked_at_was_told_as_a_self_cancellation(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(extra=TASKS)
    ended = await service.run("odd")
    assert ended.status is Status.FAILED
    assert "/problems/task-failed" in str(ended.error)
    assert "cancelled itself" not in str(ended.error)
    [line] = [line for line in caplog.records if "failed for good" in line.getMessage()]
    assert line.exc_info is not None
    assert line.exc_info[0] is ZeroDivisionError


async def test_jobs_that_miss_a_resource_are_not_begun_again_and_again_and_hold_no_other_up(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "UNREADY_SECONDS", 600)
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
    service.runs.readiness._unready.clear()
    begun = await service.submit("use-pool", first="gate")
    await until(lambda: begun.id in running)
    asked = asyncio.create_task(service.submissions.cancel(begun.id))
    gate("gate").set()
    await asked
    assert (await service.wait(begun)).status is Status.CANCELLED


def test_a_missing_resource_is_a_lookup_error_that_names_it() -> None:
    assert isinstance(ResourceMissing("Pool"), LookupError)
    assert str(ResourceMissing("Pool")) == "this process has no Pool"
