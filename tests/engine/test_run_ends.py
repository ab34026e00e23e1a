"""What could leave a run without an end, or something of a job in memory for longer than it is needed."""

import asyncio
import contextvars
import gc
import logging
import weakref
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, task

from . import sample_tasks
from .conftest import Make, Service, until
from .sample_tasks import gate, running


@task("cancels-when-closed")
async def cancels_when_closed(ctx: TaskContext, *, error: str) -> None:
    """Swallow every cancellation, and raise another one when there is no other way out."""
    running.add(ctx.job_id)
    try:
        await sample_tasks._stubborn()
    finally:
        raise asyncio.CancelledError if error == "CancelledError" else ValueError


@pytest.mark.parametrize("error", ["CancelledError", "ValueError"])
async def test_a_run_that_raised_while_it_was_abandoned_had_no_end_and_kept_its_place(
    make: Make, caplog: pytest.LogCaptureFixture, error: str
) -> None:
    caplog.set_level(logging.ERROR, "quart_async_api.jobs.runs")
    service = await make(extra=[cancels_when_closed])
    job = await service.submit("cancels-when-closed", error=error)
    await until(lambda: job.id in running)
    await service.submissions.cancel(job.id)
    assert (await service.wait(job)).status is Status.CANCELLED
    await until(lambda: len(service.runs) == 0)
    assert [job.id in line.getMessage() for line in caplog.records if "is abandoned" in line.getMessage()] == [True]


class Something:
    """What a request holds."""


_held: contextvars.ContextVar[Something] = contextvars.ContextVar("held")


async def test_a_delayed_job_kept_its_request_and_its_arguments_in_memory_for_an_hour(service: Service) -> None:
    held = weakref.ref(Something())

    async def submit() -> str:
        nonlocal held
        something = Something()
        held = weakref.ref(something)
        _held.set(something)
        options = Options(run_at=datetime.now(UTC) + timedelta(minutes=30))
        return (await service.submit("double", options, number=1)).id

    job_id = await asyncio.create_task(submit())
    await until(lambda: gc.collect() >= 0 and held() is None)
    assert [found for found in gc.get_objects() if isinstance(found, JobRecord) and found.id == job_id] == []


async def test_a_held_job_that_could_not_be_read_kept_the_end_of_another_from_being_written(make: Make) -> None:
    @task("one-at-a-time", concurrency=1)
    async def one_at_a_time(ctx: TaskContext) -> None:
        """Run alone."""
        running.add(ctx.job_id)
        await gate("gate").wait()

    service = await make(extra=[one_at_a_time])
    first = await service.submit("one-at-a-time")
    await until(lambda: first.id in running)
    damaged = await service.submit("one-at-a-time")

    def unit() -> Generator[Any, Any, None]:
        yield "UPDATE jobs SET status = 'strange' WHERE id = ?", (damaged.id,)

    await service.commits.run(unit)
    gate("gate").set()
    assert (await service.wait(first)).status is Status.SUCCEEDED
    assert await service.events(first) == ["succeeded"]
