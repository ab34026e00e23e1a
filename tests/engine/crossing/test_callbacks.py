"""Queues of callbacks that several processes change at once."""

import asyncio

import pytest

from quart_async_api.callbacks.deliveries import url_digest
from quart_async_api.callbacks.queues import Queue, due_at
from quart_async_api.db import lockstep
from quart_async_api.db.group_commit import Unit
from quart_async_api.jobs.ids import new_id

from ..conftest import Make, Service
from .conftest import Connect, fleet_of, waits_for

pytestmark = pytest.mark.process


async def _held_queue(service: Service, worker: str) -> Queue:
    """Return a queue of callbacks that a worker has claimed."""
    now, queue = service.now(), Queue("", "https://example.org")

    def due() -> Unit[None]:
        yield due_at(queue.owner, queue.origin, "", now)

    await service.store.workers.register(worker, now)
    await service.commits.run(due)
    assert await service.queues.claim(worker, now, service.sender._shares) == {queue: 0}
    return queue


async def test_a_callback_that_comes_while_its_queue_is_let_go_of_is_due(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    worker, now = new_id(), service.now()
    queue = await _held_queue(service, worker)
    other = await connect()  # a process that ends a job with a callback, and commits last
    sql, values = due_at(queue.owner, queue.origin, "", now)
    await other.execute(
        "INSERT INTO callback_deliveries (message_id, job_id, owner, url, origin, type, body, status, tries, created_at, "
        "set_at, next_attempt_at) "
        "VALUES ('m', 'j', '', 'https://example.org/', %s, 'job.failed', '{}', 'pending', 0, %s, %s, '')",
        (queue.origin, now, now),
    )
    await other.execute(sql.replace("?", "%s").encode(), values)
    releasing = asyncio.create_task(service.queues.release(queue, worker, now))
    await waits_for(service, "SELECT 1 FROM callback_queues")
    await other.commit()
    await releasing
    assert await service.queues.is_due(now)


async def test_an_origin_that_another_process_claims_for_another_key_is_left_to_it(
    make: Make, connect: Connect
) -> None:
    [service] = await fleet_of(make, 1)
    worker, now, origin = new_id(), service.now(), "https://example.org"

    def due() -> Unit[None]:
        for owner in ("a", "b"):
            yield due_at(owner, origin, "", now)

    await service.store.workers.register(worker, now)
    await service.commits.run(due)
    other = await connect()
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"callbacks to {origin}"),))
    await other.execute("UPDATE callback_queues SET worker = 'other' WHERE owner = 'b'")
    assert await service.queues.claim(worker, now, service.sender._shares) == {}
    await other.commit()
    assert await service.queues.claim(worker, now, service.sender._shares) == {}


async def test_a_queue_of_callbacks_and_the_count_of_jobs_were_locked_in_two_orders(
    make: Make, connect: Connect
) -> None:
    [service] = await fleet_of(make, 1)
    worker, now = new_id(), service.now()
    queue = await _held_queue(service, worker)
    await service.submit("double", number=1)
    other = await connect()  # a process that ends a job with a callback: it counts the end, then makes the queue due
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute("UPDATE job_usage SET unfinished = unfinished WHERE owner = ''")
    before = service.commits.commits
    writing = asyncio.gather(service.queues.release(queue, worker, now), service.submit("double", number=2))
    await waits_for(service, "INSERT INTO job_usage")
    await other.execute("UPDATE callback_queues SET next_at = '' WHERE origin = %s", (queue.origin,))
    await other.commit()
    await writing
    assert service.commits.commits - before == 1, "neither waited for the other"


async def test_a_replay_enables_a_url_that_is_being_disabled(make: Make, connect: Connect) -> None:
    [service] = await fleet_of(make, 1)
    now, url, other = service.now(), "https://example.org/", await connect()
    await other.execute(
        "INSERT INTO callback_deliveries (message_id, job_id, owner, url, origin, type, body, status, tries, created_at, "
        "set_at) VALUES ('m', 'j', '', %s, 'https://example.org', 'job.failed', '{}', 'failed', 1, %s, %s)",
        (url, now, now),
    )
    await other.commit()
    # A process that has got a 410 for another callback to this URL.
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"callbacks to {url_digest(url)}"),))
    await other.execute("INSERT INTO callback_disabled_targets VALUES (%s, %s, %s)", (url_digest(url), url, now))
    replaying = asyncio.create_task(service.deliveries.replay("j", "m", now))
    await waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.commit()
    await replaying
    assert await service.database.rows("SELECT digest FROM callback_disabled_targets") == []


async def test_two_processes_claim_no_origin_twice(make: Make) -> None:
    fleet = await fleet_of(make, callback_concurrency=20)
    now, owners = fleet[0].now(), ("", "a", "b")

    def due() -> Unit[None]:
        for number in range(8):
            for owner in owners:
                yield due_at(owner, f"https://{number}.example.org", "", now)

    await fleet[0].commits.run(due)
    for service in fleet:
        await service.store.workers.register(service.presence.id, now)
    claimed: list[str] = []
    while (
        await fleet[0].queues.is_due(now) and len(claimed) < 8
    ):  # one that another process claims is left for the moment
        claims = [service.queues.claim(service.presence.id, now, service.sender._shares) for service in fleet * 2]
        claimed += [queue.origin for queues in await asyncio.gather(*claims) for queue in queues]
    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 8
