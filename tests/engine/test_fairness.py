"""Who runs next: the owners of jobs take turns, and no more jobs of a task run than it allows."""

import asyncio
from collections import Counter

import pytest

from quart_async_api.access.caller import Caller
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.queue import PROMOTED, PROMOTING_UNITS
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import later
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import Task, TaskContext, task

from .conftest import Make, Service, until
from .sample_tasks import executions, gate, running

NOW = "2026-01-01T00:00:00.000000Z"


def queued(owner: str | None, *, urgency: int = 0) -> JobRecord:
    return JobRecord(
        id=new_id(),
        task="double",
        status=Status.QUEUED,
        args="{}",
        urgency=urgency,
        max_attempts=1,
        timeout=None,
        created_at=NOW,
        run_at=NOW,
        owner=owner,
    )


async def submit(service: Service, *owners: str | None) -> None:
    await asyncio.gather(*(service.store.submission.insert(queued(owner), 10_000) for owner in owners))


async def claimed(service: Service, limit: int) -> list[str | None]:
    """The owners of the jobs that are claimed next."""
    return [job.owner for job in await service.store.claims.claim(["double"], limit, "worker", NOW, new_id)]


@pytest.fixture
async def idle(make: Make) -> Service:
    """A service that claims nothing by itself."""
    service = await make(engine=False)
    await service.store.workers.register("worker", NOW)
    return service


async def test_hundreds_of_jobs_of_one_key_delay_anothers_by_one_turn(idle: Service) -> None:
    await submit(idle, *["a"] * 200)
    assert await claimed(idle, 3) == ["a"] * 3
    await submit(idle, "b", "b", None, None)
    assert Counter(await claimed(idle, 6)) == {"a": 2, "b": 2, None: 2}
    assert await claimed(idle, 3) == ["a"] * 3


async def test_a_key_that_submits_one_job_after_another_starves_nobody(idle: Service) -> None:
    await submit(idle, *["a"] * 50)
    turns = []
    for _ in range(10):
        await submit(idle, "b")
        turns += await claimed(idle, 2)
    assert Counter(turns) == {"a": 10, "b": 10}


async def test_a_higher_priority_goes_before_any_turn(idle: Service) -> None:
    await submit(idle, "a", "b")
    await idle.store.submission.insert(queued("a", urgency=-1), 100)
    await idle.store.submission.insert(queued("a", urgency=-1), 100)
    assert await claimed(idle, 2) == ["a", "a"]


async def test_those_who_share_a_bounded_task_take_turns_too(idle: Service) -> None:
    for owner in ["a"] * 20 + ["b"] * 2 + [None]:
        await idle.store.submission.insert(queued(owner)._replace(slot="double", slot_limit=1), 100)
    turns = []
    for _ in range(7):
        [job] = await idle.store.claims.claim(["double"], 5, "worker", NOW, new_id)
        turns.append(job.owner)
        await idle.store.transitions.finish(job.id, job.run_token or "", Status.SUCCEEDED, NOW, 60)
    assert turns == ["a", "b", None, "a", "b", "a", "a"]


async def test_an_urgent_job_of_a_bounded_task_does_not_wait_for_one_that_has_not_begun(idle: Service) -> None:
    for urgency in (0, -5):
        await idle.store.submission.insert(queued("a", urgency=urgency)._replace(slot="double", slot_limit=1), 100)
    [first] = await idle.store.claims.claim(["double"], 5, "worker", NOW, new_id)
    assert first.urgency == -5


together: Counter[str] = Counter()
most: Counter[str] = Counter()


def bounded(name: str, **bounds: object) -> Task:
    @task(name, **bounds)  # type: ignore[arg-type]
    async def run(ctx: TaskContext, *, account: str) -> None:
        """Count how many run together."""
        together[account] += 1
        most[account] = max(most[account], together[account])
        if account == "any":
            await until(lambda: most[account] >= 2)
        await asyncio.sleep(0)
        together[account] -= 1

    return run


async def test_no_more_jobs_of_a_task_run_than_it_allows_in_all_processes(make: Make) -> None:
    most.clear()
    tasks = [bounded("two-at-once", concurrency=2), bounded("one-an-account", concurrency_key="account")]
    services = [await make(extra=tasks), await make(extra=tasks)]
    jobs = [await services[n % 2].submit("two-at-once", account="any") for n in range(12)]
    jobs += [await services[n % 2].submit("one-an-account", account="xyz"[n % 3]) for n in range(12)]
    for job in jobs:
        assert (await services[0].wait(job)).status is Status.SUCCEEDED
    assert most == {"any": 2, "x": 1, "y": 1, "z": 1}


async def test_a_process_that_dies_leaves_its_places_to_others(make: Make) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Wait for the gate."""
        executions[ctx.job_id] += 1
        running.add(ctx.job_id)
        await gate("gate").wait()

    dying = await make(extra=[alone], lease_seconds=60)
    jobs = [await dying.submit("alone") for _ in range(3)]
    await until(lambda: jobs[0].id in running)
    assert executions.keys() == {jobs[0].id}
    other = await make(extra=[alone], lease_seconds=60)
    await dying.die()
    gate("gate").set()
    for job in jobs:
        assert (await other.wait(job)).status is Status.SUCCEEDED


async def test_cancelling_and_retrying_make_room_for_the_next(make: Make) -> None:
    @task("alone", concurrency=1, retries=1, retryable=(ValueError,))
    async def alone(ctx: TaskContext, *, fails: bool) -> None:
        """Fail once, or wait to be cancelled."""
        if fails and ctx.attempt == 1:
            raise ValueError
        if not fails:
            running.add(ctx.job_id)
            await asyncio.Event().wait()

    service = await make(extra=[alone])
    failing = await service.submit("alone", fails=True)
    waiting = [await service.submit("alone", fails=False) for _ in range(2)]
    for job in waiting:
        await until(lambda job=job: job.id in running)  # type: ignore[misc]
        await service.submissions.cancel(job.id)
        await service.wait(job)
    assert (await service.wait(failing)).status is Status.SUCCEEDED


async def test_a_bounded_task_holds_no_other_up(make: Make) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Wait for the gate."""
        await gate("gate").wait()

    service = await make(extra=[alone], job_concurrency=2)
    for _ in range(20):
        await service.submit("alone", Options(priority=1))
    assert (await service.run("double", number=1)).result == "2"
    gate("gate").set()


async def test_a_delayed_job_runs_though_a_hundred_others_of_a_missing_task_are_due_before_it(make: Make) -> None:
    other = await make(engine=False)
    soon = other.submissions.later(0.05)
    missing = other.submissions.task("double")
    arguments = other.submissions.arguments(missing, {"number": 1})
    caller = Caller("a")
    await asyncio.gather(
        *(other.submissions.submit(missing, arguments, Options(run_at=soon), caller=caller) for _ in range(120))
    )
    service = await make(without=["double"])
    job = await service.submit("hold", Options(run_at=other.submissions.later(0.06)))
    gate("gate").set()
    assert (await service.wait(job)).status is Status.SUCCEEDED


async def test_a_claim_does_not_wait_until_thousands_of_jobs_that_came_due_at_once_are_lined_up(make: Make) -> None:
    service = await make(engine=False, job_queue_limit=100_000)
    await service.presence.start(service.background)
    many = PROMOTED * PROMOTING_UNITS * 2
    [first, *_] = await asyncio.gather(
        *(service.submit("double", Options(run_at=service.submissions.later(60)), number=n) for n in range(many))
    )

    async def claim() -> list[JobRecord]:
        return await service.store.claims.claim(["double"], 1, service.presence.id, later(first.run_at, 3600), new_id)

    [claimed] = await claim()
    waiting = await service.database.read("SELECT COUNT(*) AS n FROM jobs WHERE stage = 'delayed'")
    assert waiting[0]["n"] == many // 2
    assert claimed.status is Status.RUNNING
    await claim()  # goes on with those that are left
    await claim()
    assert not await service.database.read("SELECT 1 FROM jobs WHERE stage = 'delayed'")
