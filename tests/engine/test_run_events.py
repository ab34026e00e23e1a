"""What a run says while it goes on comes in the order in which its task said it."""

import asyncio
import json

import pytest

from quart_async_api.jobs.context import PROGRESS_SECONDS
from quart_async_api.jobs.states import JobRecord
from quart_async_api.moments import moment
from quart_async_api.tasks import TaskContext, task

from .conftest import RARELY, Make, Service, until
from .sample_tasks import gate


async def told(service: Service, job: JobRecord) -> list[tuple[str, str]]:
    events = await service.store.history.events(job.id, 0)
    return [(event.name, str(event.data.get("current", event.data.get("text", "")))) for event in events]


@pytest.mark.parametrize("name", ["narrate", "narrate-in-thread"])
async def test_a_line_of_the_log_came_before_the_progress_that_was_reported_first(service: Service, name: str) -> None:
    job = await service.run(name, steps=5)
    steps = [(kind, str(step)) for step in range(5) for kind in ("progress", "log")]
    assert await told(service, job) == [*steps, ("succeeded", "")]


async def test_progress_without_a_line_between_is_written_at_most_four_times_a_second(service: Service) -> None:
    job = await service.run("talk", steps=200)
    seconds = (moment(job.finished_at or "") - moment(job.started_at or "")).total_seconds()
    names = [name for name, _ in await told(service, job)]
    # The first one, and the last one before the line.
    assert names.count("progress") <= 2 + seconds / PROGRESS_SECONDS


async def test_progress_after_a_line_waits_its_time_again_and_is_written_without_another(make: Make) -> None:
    @task("pause")
    async def pause(ctx: TaskContext) -> None:
        """Report, log, report, and wait."""
        for step in (1, 2):
            await ctx.progress(step)
        await ctx.log("two")
        for step in (3, 4):
            await ctx.progress(step)
        await gate("gate").wait()

    service = await make(extra=[pause])
    job = await service.submit("pause")
    expected = [("progress", "1"), ("progress", "2"), ("log", "two"), ("progress", "4")]

    async def are_told() -> bool:
        return ("progress", "4") in await told(service, job)

    await until(are_told)
    # A write that takes longer than the pause lets the third one through.
    assert [each for each in await told(service, job) if each != ("progress", "3")] == expected
    gate("gate").set()
    await service.wait(job)


async def test_events_are_bounded_though_each_line_takes_progress_along(make: Make) -> None:
    service = await make(job_max_events=10)
    job = await service.run("narrate", steps=50)
    assert len(await told(service, job)) == 11
    assert json.loads(job.progress or "")["current"] == 49, "the last progress is kept all the same"


@pytest.mark.usefixtures("rare_rounds")
async def test_lines_that_are_logged_at_once_are_stored_together(make: Make) -> None:
    @task("chorus")
    async def chorus(ctx: TaskContext) -> None:
        """Log many lines at once, after progress that waits."""
        await ctx.progress(1)
        await ctx.progress(2)
        await asyncio.gather(*(ctx.log(str(number)) for number in range(100)))

    service = await make(extra=[chorus], **RARELY)
    before = service.commits.commits
    job = await service.run("chorus")
    assert await told(service, job) == [
        ("progress", "1"),
        ("progress", "2"),
        *(("log", str(number)) for number in range(100)),
        ("succeeded", ""),
    ]
    assert service.commits.commits - before < 40
