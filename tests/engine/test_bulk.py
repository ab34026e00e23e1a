"""A job that cancels or retries all jobs that match a filter does so once, whatever happens to its process."""

import asyncio
from typing import Any

import pytest

from quart_async_api.access.caller import ANYONE, Caller, Scope
from quart_async_api.db.group_commit import one
from quart_async_api.errors import DatabaseUnavailable, QueueFull
from quart_async_api.jobs import readiness
from quart_async_api.jobs.context import WaitContext
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.services import bulk
from quart_async_api.services.bulk import Action, JobFilter, bulk_jobs
from quart_async_api.services.submissions import Options

from .conftest import Make, Service, until
from .sample_tasks import gate, running


@pytest.fixture(params=["embedded", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def start(service: Service, action: Action, caller: Caller = ANYONE, /, **filters: Any) -> JobRecord:
    arguments = bulk_jobs.arguments(action=action, filter=JobFilter(**filters))
    return await service.submissions.submit(bulk_jobs, arguments, bulk.OPTIONS, caller=caller, spare=bulk.SPARE)


async def result(service: Service, job: JobRecord) -> Any:
    ended = await service.wait(job)
    assert ended.status is Status.SUCCEEDED, ended.error
    return ended.part("result")


async def many(service: Service, number: int, status: str, task: str = "double", owner: str | None = None) -> list[str]:
    """Jobs with this status. Their ids, in order."""
    what = service.submissions.task(task)
    arguments = service.submissions.arguments(what, {"number": 1} if task == "double" else {"name": "bulk"})
    jobs = [
        await service.submissions.submit(
            what, arguments, Options(run_at=service.submissions.later(3600)), caller=Caller(owner)
        )
        for _ in range(number)
    ]
    for job in jobs if status == "cancelled" else ():
        await service.submissions.cancel(job.id)
    return [job.id for job in jobs]


async def counts(service: Service, what: str) -> dict[Any, int]:
    rows = await service.database.rows(f"SELECT {what}, COUNT(*) FROM jobs GROUP BY {what}")  # noqa: S608
    return dict(rows)


async def counted(service: Service) -> tuple[int, int]:
    """The jobs that this process has counted as submitted, and as cancelled."""
    await service.figures.write()
    minutes = (await service.figures.read()).minutes.values()
    return sum(minute.submitted for minute in minutes), sum(minute.cancelled for minute in minutes)


async def test_all_that_match_are_cancelled_and_no_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 4)
    service = await make()
    held = await service.submit("hold", name="other")
    await until(lambda: held.id in running)
    queued = await many(service, 10, "queued")
    others = await many(service, 3, "queued", task="hold")
    first = await start(service, Action.CANCEL, task="double")
    assert await result(service, first) == {"matched": 10, "done": 10, "skipped": 0}
    statuses = [(await service.store.reading.get(job_id, None)).status for job_id in (*queued, *others, held.id)]
    assert statuses == [Status.CANCELLED] * 10 + [Status.QUEUED] * 3 + [Status.RUNNING]
    assert (await service.wait(first)).part("progress")["percent"] == 100

    assert await result(service, await start(service, Action.CANCEL)) == {"matched": 4, "done": 4, "skipped": 0}
    assert (await service.wait(held)).status is Status.CANCELLED
    assert await counts(service, "status") == {"cancelled": 14, "succeeded": 2}  # no bulk job is in a set
    await until(lambda: not len(service.runs))  # a run is counted once its end is written
    assert await counted(service) == (16, 14)


async def test_a_bulk_retry_whose_process_dies_goes_on_and_retries_nothing_twice(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PAGE", 1)
    first = await make()
    ended = await many(first, 40, "cancelled")
    job = await start(first, Action.RETRY, status="cancelled")

    async def is_halfway() -> bool:
        place = await first.store.bulk.place(job.id)
        return place is not None and place.done >= 5

    await until(is_halfway)
    await first.die()
    second = await make()
    assert await result(second, job) == {"matched": 40, "done": 40, "skipped": 0}
    assert (await second.wait(job)).attempt == 2
    retried = await second.database.rows("SELECT retry_of FROM jobs WHERE retry_of IS NOT NULL ORDER BY retry_of")
    assert [retry_of for (retry_of,) in retried] == sorted(ended)  # each once


async def test_two_runs_of_one_bulk_job_retry_nothing_twice(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 3)
    service = await make(engine=False)
    ended = await many(service, 20, "cancelled")
    job = await start(service, Action.RETRY)

    async def run() -> None:
        while True:
            try:
                await service.bulk.run(
                    WaitContext(job.id, service.settings, {}, lambda: None), Action.RETRY, JobFilter()
                )
            except DatabaseUnavailable:  # the other one has gone on: for the next attempt
                continue
            return

    await asyncio.gather(run(), run(), run())
    retried = await service.database.rows("SELECT retry_of FROM jobs WHERE retry_of IS NOT NULL ORDER BY retry_of")
    assert [retry_of for (retry_of,) in retried] == sorted(ended)
    assert await counted(service) == (41, 20)


@pytest.mark.slow
async def test_a_bulk_retry_waits_for_room_in_the_queue_without_its_slot(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(bulk, "WAITS", 2)
    monkeypatch.setattr(readiness, "UNREADY_SECONDS", 0.5)  # in which a busy machine has begun another job
    service = await make(job_queue_limit=5, job_concurrency=1)
    roomy = await make(engine=False)
    await many(roomy, 12, "cancelled")
    held = await service.submit("hold")
    await until(lambda: held.id in running)
    waiting = [await service.submit("double", number=1) for _ in range(5)]
    with pytest.raises(QueueFull):
        await service.submit("double", number=1)
    job = await start(service, Action.RETRY, status="cancelled")  # has a place all the same
    gate("gate").set()
    assert await result(service, job) == {"matched": 12, "done": 12, "skipped": 0}
    for each in waiting:
        assert (await service.wait(each)).status is Status.SUCCEEDED


async def test_what_cannot_be_retried_is_skipped_and_later_jobs_are_in_no_set(make: Make) -> None:
    service = await make()
    ids = await many(service, 3, "cancelled")
    outdated = ("UPDATE jobs SET args = ? WHERE id = ?", ('{"number": "none"}', ids[1]))
    await service.commits.run(lambda: one(outdated))
    job = await start(service, Action.RETRY)
    await many(service, 2, "queued")
    assert await result(service, job) == {"matched": 3, "done": 2, "skipped": 1}


async def test_a_bulk_job_changes_the_jobs_that_its_owner_may_change(make: Make) -> None:
    service = await make()
    alice, _ = await service.keys.create("alice")
    root, _ = await service.keys.create("root", (Scope.ADMIN,))
    for owner in (alice.id, root.id, None):
        await many(service, 2, "queued", owner=owner)
    assert (await result(service, await start(service, Action.CANCEL, alice.caller)))["done"] == 2
    assert await counts(service, "status") == {"cancelled": 2, "queued": 4, "succeeded": 1}
    await service.keys.revoke("root")  # no admin any longer
    assert (await result(service, await start(service, Action.CANCEL, root.caller)))["done"] == 2
    other, _ = await service.keys.create("other", (Scope.ADMIN,))
    assert (await result(service, await start(service, Action.CANCEL, other.caller)))["done"] == 2
