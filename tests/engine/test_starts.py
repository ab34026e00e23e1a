"""A new job begins in the transaction that inserts it, where it takes nobody's turn and this process has a free place."""

import asyncio
import contextlib

import pytest

from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import TaskContext, task

from .conftest import RARELY, Make, Service, until
from .sample_tasks import gate, order, running


async def _held(service: Service, name: str = "") -> JobRecord:
    job = await service.submit("hold", name=name)
    await until(lambda: job.id in running)
    return job


async def _row(service: Service, job: JobRecord) -> JobRecord:
    return await service.store.reading.get(job.id, None)


@pytest.mark.usefixtures("rare_rounds")
async def test_a_job_for_which_there_is_a_place_needs_no_claim(make: Make) -> None:
    service = await make(**RARELY)
    await service.run("double", number=1)
    loops = *service.presence.loops, *service.engine.loops, service.runs.loop
    await until(lambda: all(loop.succeeded_at for loop in loops if loop.name != "dispatcher"))
    before = service.commits.commits
    job = await service.submit("hold", name="")
    assert service.commits.commits == before + 1
    row = await _row(service, job)
    assert (row.status, row.stage, row.attempt, row.worker) == ("running", "running", 1, service.presence.id)


async def test_a_new_job_does_not_pass_one_that_waits(make: Make) -> None:
    service = await make(job_concurrency=1)
    await _held(service)
    for number in range(3):
        await service.submit("double", Options(priority=-1), number=number)
    gate("").set()
    await until(lambda: not running)
    jobs = [await service.submit("double", Options(priority=-1), number=number) for number in range(3, 6)]
    assert [(await service.wait(job)).result for job in jobs] == ["6", "8", "10"]
    assert order == ["0", "1", "2", "3", "4", "5"]


async def test_a_new_job_does_not_pass_one_of_another_process(make: Make) -> None:
    other = await make(without=["double"])
    left = await other.submit("hold", name="left")  # begins there
    idle = await make(engine=False)
    waiting = await idle.submit("double", number=1)
    await until(lambda: left.id in running)
    assert (await other.submit("hold", name="later")).id not in running
    assert (await _row(idle, waiting)).stage == "ready"


async def test_no_more_begin_at_once_than_have_a_place(make: Make) -> None:
    service = await make(job_concurrency=3)
    jobs = await asyncio.gather(*(service.submit("hold", name="") for _ in range(10)))
    await until(lambda: len(running) == 3)
    stages = [(await _row(service, job)).stage for job in jobs]
    assert sorted(map(str, stages)) == ["ready"] * 7 + ["running"] * 3
    gate("").set()
    assert {(await service.wait(job)).status for job in jobs} == {Status.SUCCEEDED}


async def test_the_check_of_runs_gave_back_a_job_between_its_commit_and_its_beginning(make: Make) -> None:
    service = await make()
    settled: list[JobRecord] = []

    class Late:
        """Begins what is committed later than it should."""

        reserve = service.engine.reserve  # type: ignore[attr-defined]

        def settle(self, run: JobRecord, *, begins: bool) -> None:
            assert begins
            settled.append(run)

    service.store.submission.starter = Late()
    job = await service.submit("double", number=1)
    await service.runs.loop.work()
    assert (await _row(service, job)).status is Status.RUNNING
    service.runs.settle(settled[0], begins=True)
    assert (await service.wait(job)).result == "2"


async def test_a_job_begins_though_its_caller_left_during_the_commit(make: Make) -> None:
    service = await make(job_concurrency=1)
    caller = asyncio.create_task(service.submit("hold", name=""))
    await until(lambda: service.runs.free == 0)
    caller.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await caller
    await until(lambda: len(running) == 1)
    gate("").set()
    await until(lambda: service.runs.free == 1)


async def test_a_body_that_blocks_the_loop_held_up_the_answer_to_its_submission(make: Make) -> None:
    seen: list[str] = []

    @task("block")
    async def block(ctx: TaskContext) -> None:
        """Note that it has begun, where others block the loop."""
        seen.append("body")

    service = await make(extra=[block])
    job = await service.submit("block")
    seen.append("answered")
    await service.wait(job)
    assert seen == ["answered", "body"]


async def test_a_drain_gives_back_what_was_about_to_begin(make: Make) -> None:
    service = await make(drain_seconds=0.0)
    submitting = asyncio.create_task(service.submit("hold", name=""))
    await until(lambda: service.runs.free < service.settings.job_concurrency)
    await service.engine.drain(0.0)
    row = await _row(service, await submitting)
    assert (row.status, row.stage, row.attempt) == ("queued", "ready", 0)


async def test_the_place_of_a_refused_job_is_free_again(make: Make) -> None:
    service = await make(job_concurrency=2, job_queue_limit=1)
    outcomes = await asyncio.gather(*(service.submit("hold", name="") for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(outcome, JobRecord) for outcome in outcomes) >= 1
    gate("").set()
    await until(lambda: service.runs.free == 2)
