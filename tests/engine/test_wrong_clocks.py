"""Processes of one database whose clocks are an hour apart: one right, one ahead, one behind."""

from datetime import timedelta

import pytest

from quart_async_api.access.caller import ANYONE
from quart_async_api.errors import KeyTaken
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.idempotency import JobReply, Key, Reply
from quart_async_api.services.submissions import Options

from .conftest import Make, Service, until
from .sample_tasks import executions, gate, running

pytestmark = pytest.mark.process
HOUR = timedelta(hours=1)


@pytest.fixture(params=["embedded", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(distributed_postgresql: str) -> str:
    return distributed_postgresql


@pytest.fixture
async def fleet(make: Make) -> list[Service]:
    services = []
    for off in (timedelta(0), HOUR, -HOUR):
        service = await make(engine=False, job_concurrency=3, without=["each-minute"])
        service.clock.ahead = off
        await service.start_engine()
        services.append(service)
    return services


async def _submit_once(service: Service) -> JobRecord | None:
    task = service.submissions.task("double")
    key = JobReply(Key("digest", "fingerprint", 60, ""), lambda job: Reply(202, {}, "", job.id))
    try:
        arguments = service.submissions.arguments(task, {"number": 1})
        return await service.submissions.submit(task, arguments, caller=ANYONE, key=key)
    except KeyTaken:
        return None


async def test_jobs_of_processes_whose_clocks_are_an_hour_apart_each_end_once(fleet: list[Service]) -> None:
    right, ahead, behind = fleet
    jobs = [await service.submit("double", number=number) for service in fleet for number in range(3)]
    jobs += [await service.submit("flaky", failures=1) for service in fleet for _ in range(3)]
    jobs.append(await right.submit("double", Options(run_at=right.submissions.later(0.2)), number=1))
    once = [job for job in [await _submit_once(service) for service in (ahead, right, behind)] if job is not None]
    assert len(once) == 1, "a key holds whichever clock reads it"
    for number, job in enumerate([*jobs, *once]):
        ended = await fleet[number % 3].wait(job)
        assert (ended.status, ended.crashes, ended.failures) == (Status.SUCCEEDED, 0, int(job.task == "flaky"))
    assert {executions[job.id] - int(job.task == "flaky") for job in [*jobs, *once]} == {1}
    for service in fleet:  # each cleans up by its own clock
        await service.janitor.loop.work()
    assert len(await right.database.rows("SELECT id FROM jobs")) == len(jobs) + 1


async def test_a_process_whose_clock_is_wrong_is_neither_taken_for_dead_nor_missed_when_it_dies(
    fleet: list[Service],
) -> None:
    held = [await service.submit("hold") for service in fleet for _ in range(2)]
    await until(lambda: len(running) == len(held))
    workers = {service.presence.id for service in fleet}

    async def a_lease_has_passed() -> bool:
        return all(beat > 4 for beat in (await fleet[0].store.workers.beats()).values())  # three in a lease

    await until(a_lease_has_passed)
    assert set(await fleet[0].store.workers.beats()) == workers
    dead = fleet[1]
    theirs = {job.id for job in dead.runs.jobs}
    await fleet[0].submissions.cancel(next(job.id for job in held if job.id not in theirs))
    await dead.die()
    await until(lambda: all(executions[job] == 2 for job in theirs))
    assert set(await fleet[0].store.workers.beats()) == workers - {dead.presence.id}
    gate("gate").set()
    ended = [await fleet[2].wait(job) for job in held]
    assert [job.status for job in ended].count(Status.CANCELLED) == 1
    assert {job.id for job in ended if job.crashes} == theirs
    assert sum(executions.values()) == len(held) + len(theirs)
