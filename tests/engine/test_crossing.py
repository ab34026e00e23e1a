"""Processes that change the same rows at the same time, with no lock that all of them take: what each relies on holds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import psycopg
import pytest

from quart_async_api import TaskContext, task
from quart_async_api.access import tokens
from quart_async_api.access.caller import Caller
from quart_async_api.callbacks.deliveries import url_digest
from quart_async_api.callbacks.queues import Queue, due_at
from quart_async_api.db import lockstep
from quart_async_api.db.group_commit import Hold, Late, Sum, Unit, in_step
from quart_async_api.errors import KeyTaken, QueueFull, QuotaExceeded, ServiceError
from quart_async_api.jobs import pauses
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import Status
from quart_async_api.moments import later
from quart_async_api.services import idempotency
from quart_async_api.services.idempotency import JobReply, Key, Reply
from quart_async_api.services.submissions import Options

from .conftest import PATIENCE, Make, Service, until

pytestmark = pytest.mark.process
T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
CRASHED = '{"title": "crashed"}'


@pytest.fixture
def backend(migrated_postgresql: str) -> str:
    return migrated_postgresql


@pytest.fixture
async def connect(backend: str) -> AsyncIterator[Callable[[], Coroutine[Any, Any, Connection]]]:
    async with AsyncExitStack() as stack:

        async def connect() -> Connection:
            return await stack.enter_async_context(await psycopg.AsyncConnection.connect(backend))

        yield connect


async def _waits_for(service: Service, sql: str) -> None:
    """Wait until a statement of this form waits for a lock."""

    async def waits() -> bool:
        found = await service.database.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE ?",
            f"{sql}%",
        )
        return bool(found)

    await until(waits)


async def _fleet(make: Make, number: int = 3, **settings: Any) -> list[Service]:
    return [await make(engine=False, **settings) for _ in range(number)]


async def _refusals(calls: Sequence[Coroutine[Any, Any, object]]) -> Counter[str]:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    strange = [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, ServiceError)]
    assert strange == []
    return Counter(type(each).__name__ if isinstance(each, ServiceError) else "done" for each in outcomes)


async def test_units_that_wait_for_each_other_are_run_again(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    other = await connect()
    insert = "INSERT INTO schedule_ticks (task, tick) VALUES ('crossing', ?)"
    change = "UPDATE schedule_ticks SET task = task WHERE tick = ?"

    def unit(*statements: tuple[str, str]) -> Callable[[], Unit[None]]:
        def run() -> Unit[None]:
            for sql, value in statements:
                yield (sql, (value,))

        return run

    await service.commits.run(unit((insert, "a"), (insert, "b")))
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute(change.replace("?", "'b'").encode())
    before = service.commits.commits
    crossing = asyncio.gather(
        service.commits.run(unit((change, "a"), (change, "b"))), service.commits.run(unit((insert, "c")))
    )
    await _waits_for(service, "UPDATE schedule_ticks")
    waiting = asyncio.create_task(other.execute(change.replace("?", "'a'").encode()))
    await waiting
    await other.commit()
    await crossing
    assert service.commits.commits - before == 2  # each alone
    assert len(await service.database.rows("SELECT 1 FROM schedule_ticks")) == 3


async def test_parts_in_step_share_their_round_trips_and_wait_for_a_key(make: Make) -> None:
    [service] = await _fleet(make, 1)
    steps: list[str] = []

    def part(name: str, key: str | None) -> Unit[str]:
        if key is not None:
            yield Hold(key)
        for number in range(2):
            steps.append(f"{name}{number}")
            yield ("INSERT INTO schedule_ticks (task, tick) VALUES ('step', ?)", (f"{name}{number}",))
        return name

    def unit() -> Unit[list[str]]:
        yield Sum("UPDATE schedule_ticks SET tick = ? || '!' || ? WHERE task = 'none'", ("row", 1))
        yield Late("DELETE FROM schedule_ticks WHERE tick = ?", ("a0",))
        return (yield from in_step([part("a", None), part("b", "key"), part("c", "key")]))

    assert await service.commits.run(unit) == ["a", "b", "c"]
    assert steps == ["a0", "b0", "a1", "b1", "c0", "c1"] or steps == ["a0", "a1", "b0", "b1", "c0", "c1"]
    ticks = await service.database.rows("SELECT tick FROM schedule_ticks ORDER BY tick")
    assert [tick for (tick,) in ticks] == ["a1", "b0", "b1", "c0", "c1"]


async def test_parts_in_step_take_their_keys_in_one_order(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    first, last = sorted(("some key", "other key"), key=lockstep.number)
    other = await connect()
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(first),))

    def part(key: str) -> Unit[None]:
        yield Hold(key)

    holding = asyncio.create_task(service.commits.run(lambda: in_step([part(last), part(first)])))
    await _waits_for(service, "SELECT pg_advisory_xact_lock")
    taken = await (await other.execute("SELECT pg_try_advisory_xact_lock(%s)", (lockstep.number(last),))).fetchone()
    await other.rollback()
    await holding
    assert taken == (True,)


async def test_a_batch_takes_as_few_round_trips_as_one_of_its_units(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    [service] = await _fleet(make, 1, job_queue_limit=1_000_000)
    trips = 0
    sync = psycopg.AsyncPipeline.sync

    async def counted(pipeline: psycopg.AsyncPipeline) -> None:
        nonlocal trips
        trips += 1
        await sync(pipeline)

    monkeypatch.setattr(psycopg.AsyncPipeline, "sync", counted)
    worker, now = new_id(), service.now()
    await service.store.workers.register(worker, now)

    async def costs(*calls: Coroutine[Any, Any, T]) -> tuple[int, list[T]]:
        nonlocal trips
        trips, before = 0, service.commits.commits
        outcomes = await asyncio.gather(*calls)
        assert service.commits.commits - before == 1
        return trips, outcomes

    submitted, _ = await costs(*(service.submit("double", number=1) for _ in range(100)))
    claimed, [runs] = await costs(service.store.claims.claim(("double",), 100, worker, now, new_id))
    write = service.store.transitions
    noted, _ = await costs(*(write.record(run.id, run.run_token or "", now, "log", {}, 9) for run in runs[:50]))
    ended, _ = await costs(
        *(write.finish(run.id, run.run_token or "", Status.SUCCEEDED, now, 60, known=run) for run in runs[50:])
    )
    await asyncio.gather(*(service.submit("double", number=1) for _ in range(50)))
    waiting = await service.store.reading.page(50, None)
    cancelled, _ = await costs(*(write.cancel(job.id, now, 60) for job in waiting))
    assert (submitted, claimed, noted, ended, cancelled) == (5, 7, 4, 3, 4)


@pytest.mark.parametrize("limit", [25, 1500])
async def test_the_queue_takes_no_job_too_many_however_many_processes_submit(make: Make, limit: int) -> None:
    fleet = await _fleet(make, job_queue_limit=limit)
    done = await _refusals([service.submit("double", number=1) for service in fleet * (limit // 3 + 20)])
    assert done == {"done": limit, QueueFull.__name__: 60 - limit % 3}
    [[queued]] = await fleet[0].database.rows("SELECT COUNT(*) FROM jobs")
    assert queued == limit


async def test_a_key_gets_no_job_too_many_however_many_processes_submit(make: Make) -> None:
    fleet = await _fleet(make, job_quota=20)

    def submit(service: Service, owner: str) -> Coroutine[Any, Any, object]:
        task = service.submissions.task("double")
        arguments = service.submissions.arguments(task, {"number": 1})
        return service.submissions.submit(task, arguments, Options(), caller=Caller(owner))

    done = await _refusals([submit(service, owner) for service in fleet * 10 for owner in ("one", "other")])
    assert done == {"done": 40, QuotaExceeded.__name__: 20}
    used = await fleet[0].database.rows("SELECT owner, unfinished, jobs FROM job_usage ORDER BY owner")
    assert used == [("one", 20, 20), ("other", 20, 20)]


async def test_no_user_too_many_is_added_however_many_processes_add_them(make: Make) -> None:
    fleet = await _fleet(make)
    calls = [fleet[number % 3].users.create("a", f"{number}@example.org", most=25) for number in range(60)]
    assert await _refusals(calls) == {"done": 25, QuotaExceeded.__name__: 35}
    assert await fleet[0].database.rows("SELECT COUNT(*) FROM users") == [(25,)]


async def test_an_idempotency_key_starts_one_job_however_many_processes_get_it(make: Make) -> None:
    fleet = await _fleet(make)

    def submit(service: Service, number: int) -> Coroutine[Any, Any, object]:
        key = Key(f"digest {number}", "fingerprint", 60, "")
        task = service.submissions.task("double")
        arguments = service.submissions.arguments(task, {"number": number})
        reply = JobReply(key, lambda job: Reply(202, {}, "", job.id))
        return service.submissions.submit(task, arguments, Options(), key=reply)

    done = await _refusals([submit(service, number) for number in range(10) for service in fleet])
    assert done == {"done": 10, KeyTaken.__name__: 20}
    rows = await fleet[0].database.rows(
        "SELECT k.job_id, j.id FROM idempotency_keys k LEFT JOIN jobs j ON j.id = k.job_id"
    )
    assert len(rows) == 10
    assert all(job is not None for _, job in rows)
    kept = await idempotency.Idempotency(fleet[1].database).reply(Key("digest 3", "fingerprint", 60, ""))
    assert kept is not None


async def test_a_key_has_no_session_too_many_however_many_processes_sign_it_in(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SESSIONS_PER_KEY", 3)
    fleet = await _fleet(make)
    for _ in range(10):
        await asyncio.gather(*(each.access_tokens.issue(tokens.Kind.SESSION, "a key", 60) for each in fleet))
        assert await fleet[0].database.rows("SELECT COUNT(*) FROM access_tokens") == [(3,)]


async def test_a_worker_that_claims_is_buried_after_its_claim_and_with_it(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
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
    await _waits_for(service, "DELETE FROM workers")
    await claim.commit()
    assert await burying == 1
    again = await service.store.reading.get(job.id, None)
    assert (again.status, again.stage, again.crashes, again.worker) == (Status.QUEUED, "ready", 1, None)
    now = service.now()
    assert await service.store.claims.claim(("double",), 1, worker, now, new_id) == [], "it is no longer listed"


async def test_a_worker_that_is_buried_while_it_claims_claims_nothing(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    buries = await connect()
    await buries.execute("DELETE FROM workers WHERE id = %s", (worker,))
    claiming = asyncio.create_task(service.store.claims.claim(("double",), 1, worker, now, new_id))
    await _waits_for(service, "SELECT 1 FROM workers")
    await buries.commit()
    assert await claiming == []
    assert (await service.store.reading.get(job.id, None)).stage == "ready"


@pytest.mark.parametrize("goes", ["buried", "dismissed"])
async def test_a_worker_that_goes_in_the_batch_of_its_claim_claims_nothing(make: Make, goes: str) -> None:
    """The lock that keeps a worker in the table while it claims keeps out other transactions, not its own."""

    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await _fleet(make, 1, extra=[alone])
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


async def test_a_run_that_ends_while_its_worker_is_buried_ends_once(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    [run] = await service.store.claims.claim(("double",), 1, worker, now, new_id)
    ends = await connect()
    await ends.execute(
        "UPDATE jobs SET status = 'succeeded', stage = NULL, run_token = NULL, worker = NULL WHERE id = %s", (job.id,)
    )
    burying = asyncio.create_task(service.store.crashes.bury(worker, now, 60, 3, CRASHED))
    await _waits_for(service, "SELECT id, task")
    await ends.commit()
    assert await burying == 0
    assert (await service.store.reading.get(job.id, None)).status is Status.SUCCEEDED
    assert not await service.store.transitions.give_back(job.id, run.run_token or "", now, 60)


@pytest.mark.parametrize("change", ["pause", "resume", "settle", "run"])
async def test_what_changes_the_state_of_a_task_locks_it_last(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]], change: str
) -> None:
    [service] = await _fleet(make, 1)
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
    await _waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.execute("UPDATE task_states SET name = name")
    await other.commit()
    await crossing
    assert service.commits.commits - before == 1  # together: they did not wait for each other
    await states.look()
    assert (await service.store.reading.get(job.id, None)).stage == ("ready" if change == "resume" else "paused")


async def test_the_first_claims_of_a_priority_do_not_wait_for_each_other(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    first, second = await _fleet(make, 2)
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


async def test_a_job_that_is_requeued_while_it_is_cancelled_is_cancelled(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    job, worker, now = await service.submit("double", number=1), new_id(), service.now()
    await service.store.workers.register(worker, now)
    assert await service.store.claims.claim(("double",), 1, worker, now, new_id)
    requeues = await connect()
    await requeues.execute(
        "UPDATE jobs SET status = 'queued', stage = 'ready', run_token = NULL, worker = NULL WHERE id = %s", (job.id,)
    )
    # The first of its statements finds it running, the second finds it queued.
    cancelling = asyncio.create_task(service.submissions.cancel(job.id))
    await _waits_for(service, "UPDATE jobs SET cancel_requested_at")
    await requeues.commit()
    answer, cancelled = await cancelling
    assert (answer, cancelled.status) == ("cancelled", Status.CANCELLED)


async def test_several_janitors_and_purges_replace_each_job_once(make: Make) -> None:
    fleet = await _fleet(make)
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
    fleet = await _fleet(make)
    made = await asyncio.gather(*(service.keys.create() for service in fleet * 4))
    await asyncio.gather(*(fleet[number % 3].keys.revoke(key.id) for number, (key, _) in enumerate(made)))
    versions = await fleet[0].database.rows("SELECT version FROM api_keys")
    assert len(set(versions)) == 12


async def _held_queue(service: Service, worker: str) -> Queue:
    """Return a queue of callbacks that a worker has claimed."""
    now, queue = service.now(), Queue("", "https://example.org")

    def due() -> Unit[None]:
        yield due_at(queue.owner, queue.origin, "", now)

    await service.store.workers.register(worker, now)
    await service.commits.run(due)
    assert await service.queues.claim(worker, now, service.sender._shares) == {queue: 0}
    return queue


async def test_a_callback_that_comes_while_its_queue_is_let_go_of_is_due(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
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
    await _waits_for(service, "SELECT 1 FROM callback_queues")
    await other.commit()
    await releasing
    assert await service.queues.is_due(now)


async def test_an_origin_that_another_process_claims_for_another_key_is_left_to_it(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
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
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    worker, now = new_id(), service.now()
    queue = await _held_queue(service, worker)
    await service.submit("double", number=1)
    other = await connect()  # a process that ends a job with a callback: it counts the end, then makes the queue due
    await other.execute("SET deadlock_timeout = '1h'")  # so that it is never the one that gives way
    await other.execute("UPDATE job_usage SET unfinished = unfinished WHERE owner = ''")
    before = service.commits.commits
    writing = asyncio.gather(service.queues.release(queue, worker, now), service.submit("double", number=2))
    await _waits_for(service, "INSERT INTO job_usage")
    await other.execute("UPDATE callback_queues SET next_at = '' WHERE origin = %s", (queue.origin,))
    await other.commit()
    await writing
    assert service.commits.commits - before == 1, "neither waited for the other"


async def test_a_replay_enables_a_url_that_is_being_disabled(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
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
    await _waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.commit()
    await replaying
    assert await service.database.rows("SELECT digest FROM callback_disabled_targets") == []


async def test_two_processes_claim_no_origin_twice(make: Make) -> None:
    fleet = await _fleet(make, callback_concurrency=20)
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


async def test_a_job_that_ended_in_the_batch_of_a_recount_was_subtracted_twice(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    [service] = await _fleet(make, 1)
    given_back, first, second = [await service.submit("double", number=number) for number in range(3)]
    other = await connect()  # holds up the batch before
    await other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (first.id,))
    cancelling = [asyncio.create_task(service.submissions.cancel(first.id))]
    await _waits_for(service, "UPDATE jobs")
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


async def test_a_held_job_that_another_process_failed_to_cancel_was_held_for_ever(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await _fleet(make, 1, extra=[alone])
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
    await _waits_for(service, "SELECT id, owner")
    await cancels.rollback()
    await ending
    assert (await service.store.reading.get(held.id, None)).stage == "ready"


async def test_a_batch_takes_a_slot_after_all_rows_of_jobs(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    @task("few", concurrency=2)
    async def few(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await _fleet(make, 1, extra=[few])
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
    await _waits_for(service, "UPDATE jobs SET status = 'cancelled'")
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"slot {held.slot}"),))
    await other.commit()
    await writing
    assert service.commits.commits - before == 1, "neither waited for the other"
    assert (await service.store.reading.get(held.id, None)).stage == "ready"


async def test_who_cancels_a_held_job_does_not_wait_for_its_slot(
    make: Make, connect: Callable[[], Coroutine[Any, Any, Connection]]
) -> None:
    @task("alone", concurrency=1)
    async def alone(ctx: TaskContext) -> None:
        """Do nothing."""

    [service] = await _fleet(make, 1, extra=[alone])
    ready, held = [await service.submit("alone") for _ in range(2)]
    other = await connect()  # who admits the next job of the slot may wait for the row of the one that is cancelled
    await other.execute("SELECT pg_advisory_xact_lock(%s)", (lockstep.number(f"slot {held.slot}"),))
    async with asyncio.timeout(PATIENCE):
        assert (await service.submissions.cancel(held.id))[0] == "cancelled"
    leaving = asyncio.create_task(service.submissions.cancel(ready.id))
    await _waits_for(service, "SELECT pg_advisory_xact_lock")
    await other.commit()
    await leaving
