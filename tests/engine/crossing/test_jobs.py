"""Jobs, slots, workers and keys that several processes change at once."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from quart_async_api import TaskContext, task
from quart_async_api.db import lockstep
from quart_async_api.db.group_commit import Hold, Unit
from quart_async_api.jobs import pauses
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import Status
from quart_async_api.moments import later
from quart_async_api.services.submissions import Options

from ..conftest import PATIENCE, Make, until
from .conftest import Connect, fleet_of, waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.process
CRASHED = '{"title": "crashed"}'


async def test_a_worker_that_claims_is_buried_after_its_claim_and_with_it(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    job = await service.submit("double", number=1)
    worker = new_id()
    await service.store.workers.register(worker, service.now())
    claim = await connect()
    await claim.execute("SELECT 1 FROM workers WHERE id = %s FOR KEY SHARE", (worker,))
    await claim.execute(
        "UPDATE jobs SET status = 'running', stage = 'running', worker = %s, run_token = 'token', started_at = %s, "
        "attempt = 1 WHERE id = %s",
        (worker, service.now(), job.id),
    )
    burying = asyncio.create_task(service.store.crashes.bury(worker, service.now(), 60, 3, CRASHED))
    await waits_for(service, "DELETE FROM workers")
    await claim.commit()
    assert await burying == 1
    again = await service.store.reading.get(job.id, None)
    assert (again.status, again.stage, again.crashes, again.worker) == (Status.QUEUED, "ready", 1, None)
    now = service.now()
    assert await service.store.claims.claim(("double",), 1, worker, now, new_id) == [], "it is no longer listed"


async def test_a_worker_that_is_buried_while_it_claims_claims_nothing(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    buries = await connect()
    await buries.execute("DELETE FROM workers WHERE id = %s", (worker,))
    claiming = asyncio.create_task(service.store.claims.claim(("double",), 1, worker, now, new_id))
    await waits_for(service, "SELECT 1 FROM workers")
    await buries.commit()
    assert await claiming == []
    assert (await service.store.reading.get(job.id, None)).stage == "ready"


@pytest.mark.parametrize("goes", ["buried", "dismissed"])
async def test_a_worker_that_goes_in_the_batch_of_its_claim_claims_nothing(make: Make, goes: str) -> None:
    """The lock that keeps a worker in the table while it claims keeps out other transactions, not its own."""

    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await fleet_of(make, 1, extra=[alone])
    worker, now, store = new_id(), service.now(), service.store
    await store.workers.register(worker, now)
    await service.submit("double", number=1)
    await service.submit("alone", Options(run_at=service.submissions.later(1)))  # its slot is taken last in the batch
    await asyncio.gather(
        store.claims.claim(("double", "alone"), 5, worker, later(now, 2), new_id),
        store.workers.dismiss(worker) if goes == "dismissed" else store.crashes.bury(worker, now, 60, 9, CRASHED),
    )
    assert await service.database.rows("SELECT worker FROM jobs WHERE status = 'running'") == []
    assert await service.database.rows("SELECT id FROM workers") == []


async def test_a_run_that_ends_while_its_worker_is_buried_ends_once(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    [run] = await service.store.claims.claim(("double",), 1, worker, now, new_id)
    ends = await connect()
    await ends.execute(
        "UPDATE jobs SET status = 'succeeded', stage = NULL, run_token = NULL, worker = NULL WHERE id = %s", (job.id,)
    )
    burying = asyncio.create_task(service.store.crashes.bury(worker, now, 60, 3, CRASHED))
    await waits_for(service, "SELECT id, task")
    await ends.commit()
    assert await burying == 0
    assert (await service.store.reading.get(job.id, None)).status is Status.SUCCEEDED
    assert not await service.store.transitions.give_back(job.id, run.run_token or "", now, 60)


@pytest.mark.parametrize("change", ["pause", "resume", "settle", "run"])
async def test_what_changes_the_state_of_a_task_locks_it_last(make: Make, connect: Connect, change: str) -> None:
    [service] = await fleet_of(make, 1)
    states, now = service.store.pauses, service.now()
    await states.pause("double", now)
    job = await service.submit("double", number=1)
    changes: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "pause": lambda: states.pause("double", now),
        "resume": lambda: states.resume("double", now),
        "settle": lambda: states._units.run(partial(pauses._settle, "double")),
        "run": lambda: states.started("double", now),
    }

    def hold() -> Unit[None]:
        yield Hold("slot")

    other = await connect()
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number("slot"),))
    before = service.commits.commits
    crossing = asyncio.gather(changes[change](), service.commits.run(hold))
    await waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.execute("UPDATE task_states SET name = name")
    await other.commit()
    await crossing
    assert service.commits.commits - before == 1  # together: they did not wait for each other
    await states.look()
    assert (await service.store.reading.get(job.id, None)).stage == ("ready" if change == "resume" else "paused")


async def test_the_first_claims_of_a_priority_do_not_wait_for_each_other(make: Make, connect: Connect) -> None:
    first, second = await fleet_of(make, 2)
    slow, worker = await connect(), new_id()
    await first.store.workers.register(worker, first.now())
    for service in (first, second):
        await service.submit("double", number=1)
    claim = partial(first.store.claims.claim, ("double",), 1, worker, first.now(), new_id)
    await slow.execute("SELECT pg_advisory_xact_lock(hashtext('job_turns'), 0)")
    await slow.execute("INSERT INTO job_turns (urgency, turn) VALUES (0, 1)")
    async with asyncio.timeout(PATIENCE):
        assert len(await claim()) == 1
    await slow.commit()
    assert len(await claim()) == 1


async def test_a_job_that_is_requeued_while_it_is_cancelled_is_cancelled(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    assert await service.store.claims.claim(("double",), 1, worker, now, new_id)
    requeues = await connect()
    await requeues.execute(
        "UPDATE jobs SET status = 'queued', stage = 'ready', run_token = NULL, worker = NULL WHERE id = %s", (job.id,)
    )
    # The first of its statements finds it running, the second finds it queued.
    cancelling = asyncio.create_task(service.submissions.cancel(job.id))
    await waits_for(service, "UPDATE jobs SET cancel_requested_at")
    await requeues.commit()
    answer, cancelled = await cancelling
    assert (answer, cancelled.status) == ("cancelled", Status.CANCELLED)


async def test_several_janitors_and_purges_replace_each_job_once(make: Make) -> None:
    fleet = await fleet_of(make)
    service, now = fleet[0], fleet[0].now()
    for _ in range(12):
        job = await service.submit("double", number=1)
        await service.submissions.cancel(job.id)
    after = later(now, 8 * 86_400)
    replaced = await asyncio.gather(
        *(each.store.retention.expire(after, 60, 4) for each in fleet),
        *(each.store.retention.purge(after, service.now(), 60) for each in fleet),
    )
    assert sum(replaced) == 12
    [[left], [tombstones]] = await service.database.rows(
        "SELECT COUNT(*) FROM jobs UNION ALL SELECT COUNT(*) FROM job_tombstones"
    )
    assert (left, tombstones) == (0, 12)
    assert await service.database.rows("SELECT * FROM job_usage") == []


async def test_two_changes_of_keys_have_two_versions(make: Make) -> None:
    fleet = await fleet_of(make)
    made = await asyncio.gather(*(service.keys.create() for service in fleet * 4))
    await asyncio.gather(*(fleet[number % 3].keys.revoke(key.id) for number, (key, _) in enumerate(made)))
    versions = await fleet[0].database.rows("SELECT version FROM api_keys")
    assert len(set(versions)) == 12


async def test_a_job_that_ended_in_the_batch_of_a_recount_was_subtracted_twice(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    given_back, first, second = [await service.submit("double", number=number) for number in range(3)]
    other = await connect()  # holds up the batch before
    await other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (first.id,))
    cancelling = [asyncio.create_task(service.submissions.cancel(first.id))]
    await waits_for(service, "UPDATE jobs")
    # What a process of an older version has given back.
    await service.database.rows(f"UPDATE jobs SET stage = 'running' WHERE id = '{given_back.id}' RETURNING 1")  # noqa: S608
    cancelling.append(asyncio.create_task(service.submissions.cancel(second.id)))
    await until(lambda: service.commits.waiting == 1)
    adopting = asyncio.create_task(service.store.adoption.adopt())
    await until(lambda: service.commits.waiting == 2)
    await other.rollback()
    await asyncio.gather(*cancelling)
    assert await adopting == 1
    assert await service.database.rows("SELECT unfinished, jobs FROM job_usage") == [(1, 3)]


async def test_a_held_job_that_another_process_failed_to_cancel_was_held_for_ever(make: Make, connect: Connect) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await fleet_of(make, 1, extra=[alone])
    worker, now = new_id(), service.now()
    await service.store.workers.register(worker, now)
    first, held = [await service.submit("alone") for _ in range(2)]
    [run] = await service.store.claims.claim(("alone",), 2, worker, now, new_id)
    assert (await service.store.reading.get(held.id, None)).stage == "held"
    cancels = await connect()  # a process that is killed before its commit
    await cancels.execute("UPDATE jobs SET status = 'cancelled', stage = NULL WHERE id = %s", (held.id,))
    ending = asyncio.create_task(
        service.store.transitions.finish(first.id, run.run_token or "", Status.SUCCEEDED, now, 60)
    )
    await waits_for(service, "SELECT id, owner")
    await cancels.rollback()
    await ending
    assert (await service.store.reading.get(held.id, None)).stage == "ready"


async def test_a_batch_takes_a_slot_after_all_rows_of_jobs(make: Make, connect: Connect) -> None:
    @task("few", concurrency=2)
    async def few(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await fleet_of(make, 1, extra=[few])
    worker, now = new_id(), service.now()
    await service.store.workers.register(worker, now)
    _, waiting, held = [await service.submit("few") for _ in range(3)]
    [run] = await service.store.claims.claim(("few",), 1, worker, now, new_id)
    write, other, before = service.store.transitions, await connect(), service.commits.commits
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (waiting.id,))
    writing = asyncio.gather(
        write.finish(run.id, run.run_token or "", Status.SUCCEEDED, now, 60), write.cancel(waiting.id, now, 60)
    )
    await waits_for(service, "UPDATE jobs SET status = 'cancelled'")
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"slot {held.slot}"),))
    await other.commit()
    await writing
    assert service.commits.commits - before == 1, "neither waited for the other"
    assert (await service.store.reading.get(held.id, None)).stage == "ready"


async def test_who_cancels_a_held_job_does_not_wait_for_its_slot(make: Make, connect: Connect) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await fleet_of(make, 1, extra=[alone])
    ready, held = [await service.submit("alone") for _ in range(2)]
    other = await connect()  # who admits the next job of the slot may wait for the row of the one that is cancelled
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"slot {held.slot}"),))
    async with asyncio.timeout(PATIENCE):
        assert (await service.submissions.cancel(held.id))[0] == "cancelled"
    leaving = asyncio.create_task(service.submissions.cancel(ready.id))
    await waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.commit()
    await leaving
