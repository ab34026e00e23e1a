"""A paused task: its jobs are accepted and wait, whatever the engine, and hold up no others."""

from datetime import UTC, datetime, timedelta

import pytest

from quart_async_api.access.caller import Caller
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.attention import GROWTH_LOOKS
from quart_async_api.services.checkup import Checkup
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, task

from .conftest import Make, Service, until
from .sample_tasks import executions, gate, running


@pytest.fixture(params=["embedded", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@task("single", concurrency=1)
async def single(ctx: TaskContext) -> int:
    """Run alone."""
    return 1


async def stages(service: Service, *jobs: JobRecord) -> list[str | None]:
    return [(await service.store.reading.get(job.id, None)).stage for job in jobs]


async def looking(make: Make) -> Service:
    """A service that looks for paused tasks, as one that serves does."""
    service = await make(extra=[single])
    service.background.spawn(service.pausing.run(), name="paused tasks")
    return service


async def test_no_process_starts_a_job_of_a_paused_task_until_it_is_resumed(make: Make) -> None:
    first, second = await looking(make), await looking(make)
    held = await first.submit("hold")
    await until(lambda: held.id in running)
    assert (await first.task_operations.pause("double")).paused_at is not None
    await first.task_operations.pause("single")
    await first.task_operations.pause("hold")
    for service in (first, second):
        await until(lambda service=service: {"double", "single", "hold"} <= service.store.pauses.names)  # type: ignore[misc]

    jobs = [await service.submit("double", number=number) for number in range(2) for service in (first, second)]
    limited = [await service.submit("single") for service in (first, second)]
    later = await first.submit("double", Options(run_at=first.clock() + timedelta(milliseconds=1)), number=9)
    for service in (first, second):  # others go on
        assert (await service.run("talk", steps=1)).status is Status.SUCCEEDED

    async def waits() -> bool:
        return await stages(first, *jobs) == ["paused"] * 4

    await until(waits)
    gate("gate").set()
    assert (await first.wait(held)).result == "1"  # a pause ends no run
    assert executions.keys() == {held.id}
    [cancelled] = [await first.submissions.cancel(jobs[0].id)]
    assert cancelled[1].status is Status.CANCELLED

    for name in ("double", "single", "hold"):
        await second.task_operations.resume(name)
    for job in (*jobs[1:], *limited, later):
        assert (await first.wait(job)).status is Status.SUCCEEDED
    assert executions[jobs[0].id] == 0
    assert {executions[job.id] for job in (*jobs[1:], later)} == {1}


async def test_a_process_that_starts_finds_the_pause(make: Make) -> None:
    first = await make(engine=False)
    await first.task_operations.pause("double")
    job = await first.submit("double", number=1)
    second = await make(engine=False)
    await second.store.pauses.refresh()  # as before its engine starts
    await second.start_engine()
    await second.run("talk", steps=1)
    assert (await first.store.reading.get(job.id, None)).status is Status.QUEUED


async def test_paused_jobs_take_no_turns_of_others_and_have_no_tickets(make: Make, job_engine: str) -> None:
    service = await make(engine=False)
    alice = Caller("alice")
    double, talk = service.submissions.task("double"), service.submissions.task("talk")

    async def submit(name: str) -> JobRecord:
        what, given = (double, {"number": 1}) if name == "double" else (talk, {"steps": 1})
        job = await service.submissions.submit(what, service.submissions.arguments(what, given), caller=alice)
        return await service.store.reading.get(job.id, None)

    jobs = [await submit("double") for _ in range(5)]
    assert [job.turn for job in jobs] == [1, 2, 3, 4, 5]
    await service.task_operations.pause("double")
    await service.store.pauses.look()
    assert await stages(service, *jobs) == ["paused"] * 5
    assert (await submit("talk")).turn == 1
    if job_engine == "distributed":
        assert await service.database.rows("SELECT task_name FROM procrastinate_jobs WHERE queue_name = 'double'") == []
    await service.task_operations.resume("double")
    await service.store.pauses.look()
    assert await stages(service, *jobs) == ["delayed"] * 5  # as if they had just become due
    if job_engine == "distributed":
        [[tickets]] = await service.database.rows("SELECT COUNT(*) FROM procrastinate_jobs WHERE queue_name = 'double'")
        assert tickets == 5


async def test_a_paused_schedule_does_not_fire_and_nobody_calls_that_a_fault(make: Make) -> None:
    service = await make(engine=False)
    service.clock.stopped_at = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)  # a new minute would fire it once more
    fired = await service.scheduler.fire()
    assert [job.task for job in fired] == ["each-minute"]
    ran = await service.task_operations.get("each-minute")
    assert ran.last_run_at == fired[0].created_at
    assert ran.next_run_at is not None
    assert ran.next_run_at > fired[0].created_at

    paused = await service.task_operations.pause("each-minute")
    assert (paused.next_run_at, paused.last_run_at) == (None, fired[0].created_at)
    service.clock.ahead = timedelta(minutes=5)
    assert await service.scheduler.fire() == []
    await service.attention.look()
    await service.task_operations.resume("each-minute")
    assert await service.scheduler.fire() == []  # the tick of this minute fell into the pause
    await service.attention.look()
    assert service.attention.troubles == {}
    service.clock.ahead = timedelta(minutes=6)
    assert len(await service.scheduler.fire()) == 1
    service.clock.ahead = timedelta(minutes=6, seconds=1)
    by_hand = await service.task_operations.run("each-minute")
    assert (by_hand.owner, by_hand.args) == (fired[0].owner, fired[0].args)
    assert (await service.task_operations.get("each-minute")).last_run_at == by_hand.created_at


async def test_paused_jobs_are_no_backlog_and_doctor_and_metrics_name_the_task(make: Make) -> None:
    service = await make(engine=False)
    await service.task_operations.pause("double")
    for number in range(3):
        await service.submit("double", number=number)
    await service.store.pauses.look()
    service.clock.ahead = timedelta(hours=1)
    for _ in range(GROWTH_LOOKS):
        await service.attention.look()
    assert "growing-queue" not in service.attention.troubles
    figures = await service.census.figures()
    assert figures["qaa_tasks_paused"] == {("double",): 1.0}
    assert figures["qaa_jobs"] == {("double", "paused"): 3}
    assert figures["qaa_oldest_due_job_age_seconds"] == 0
    checkup = Checkup(service.settings, service.database, service.store.workers, service.liveness, service.tasks)
    [check] = [check for check in await checkup._checks() if check.name == "paused tasks"]
    assert check.fault is None
    assert check.seen.startswith("double (since 20")
