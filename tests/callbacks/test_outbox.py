"""A callback is written in the transaction in which its event happens, however a job ends; and what the queries cost."""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from quart_async_api.callbacks.deliveries import Outcome
from quart_async_api.callbacks.outbox import TERMINAL_TYPES
from quart_async_api.callbacks.queues import AT_ONCE, Queue
from quart_async_api.callbacks.shares import Shares
from quart_async_api.callbacks.target import LONGEST_HOST, LONGEST_URL
from quart_async_api.commands.connected import connected
from quart_async_api.errors import CallbackNotFound
from quart_async_api.jobs.states import JobRecord
from quart_async_api.moments import later
from tests.engine import sample_tasks
from tests.engine.conftest import until
from tests.postgresql import MIGRATED, PostgreSQL, of_psycopg
from tests.statements import traced

from .conftest import Make, Service, on_sqlite
from .receiver import OK, Receiver, answering

if TYPE_CHECKING:
    from blockbuster import BlockBuster

URL = "http://127.0.0.1:1/hook"


async def running(service: Service, task: str = "hold") -> JobRecord:
    job = await service.submit(task, service.called_back(URL))
    await until(lambda: job.id in sample_tasks.running)
    return job


async def succeeded(service: Service) -> JobRecord:
    return await service.run("double", service.called_back(URL), number=2)


async def failed(service: Service) -> JobRecord:
    return await service.run("misbehave", service.called_back(URL), how="raise")


async def failed_after_retries(service: Service) -> JobRecord:
    return await service.run("flaky", service.called_back(URL), failures=5)


async def timed_out(service: Service) -> JobRecord:
    return await service.run("slow", service.called_back(URL))


async def cancelled_while_queued(service: Service) -> JobRecord:
    return await service.ended(URL)


async def cancelled_while_running(service: Service) -> JobRecord:
    job = await running(service)
    await service.submissions.cancel(job.id)
    return job


async def cancelled_instead_of_tried_again(service: Service) -> JobRecord:
    job = await running(service)
    [run] = await service.store.reading.runs(service.presence.id)
    write, now = service.store.transitions, service.now()
    # In one batch: its engine has not heard of the request when the attempt fails.
    _, ended = await asyncio.gather(write.cancel(job.id, now, 60), write.retry(job.id, run.token, now, now, "{}", 60))
    assert ended is not None
    return job


async def crashed_too_often(service: Service) -> JobRecord:
    job = await running(service)
    await service.store.crashes.bury(service.presence.id, service.now(), 60, 1, '{"status": 500}')
    return job


async def cancelled_and_crashed(service: Service) -> JobRecord:
    job = await running(service)
    await service.store.transitions.cancel(job.id, service.now(), 60)
    await service.store.crashes.bury(service.presence.id, service.now(), 60, 3, "{}")
    return job


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (succeeded, "job.succeeded"),
        (failed, "job.failed"),
        (failed_after_retries, "job.failed"),
        (timed_out, "job.failed"),
        (cancelled_while_queued, "job.cancelled"),
        (cancelled_while_running, "job.cancelled"),
        (cancelled_instead_of_tried_again, "job.cancelled"),
        (crashed_too_often, "job.failed"),
        (cancelled_and_crashed, "job.cancelled"),
    ],
)
async def test_each_end_of_a_job_is_committed_with_its_callback(
    make: Make, end: Callable[[Service], Awaitable[JobRecord]], kind: str
) -> None:
    service = await make(engine=True, lease_seconds=60)
    watching = await make(sender=False)
    seen: list[tuple[str, int]] = []

    async def watch() -> None:
        while True:  # one statement sees one moment
            rows = await watching.database.read(
                "SELECT status, (SELECT COUNT(*) FROM callback_deliveries d WHERE d.job_id = jobs.id) AS told FROM jobs"
            )
            seen.extend((row["status"], row["told"]) for row in rows)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    job = await end(service)
    await watching.wait(job)  # where it runs, a wait ends with the run, which does not know yet that it is buried
    [callback] = await service.callbacks_of(job)
    watcher.cancel()
    assert callback["type"] == kind
    assert all(told == (status in ("succeeded", "failed", "cancelled")) for status, told in seen)
    [row] = await service.database.read("SELECT body, created_at FROM callback_deliveries")
    document = (await service.store.reading.get(job.id, None)).document(whole=False)
    assert f'"timestamp":"{document["finished_at"]}"' in row["body"]


async def test_what_ends_a_job_and_fails_tells_nobody(make: Make) -> None:
    service = await make(sender=False)
    job = await service.submit("double", service.called_back(URL), number=1)
    await service.write(("DROP TABLE callback_deliveries", ()))
    with pytest.raises((sqlite3.Error, psycopg.Error)):
        await service.store.transitions.cancel(job.id, service.now(), 60)
    assert (await service.store.reading.get(job.id, None)).status == "queued"


async def test_the_command_line_cancels_with_a_callback_that_a_server_sends(
    make: Make, receiver: Receiver, request: pytest.FixtureRequest
) -> None:
    watch: BlockBuster = request.getfixturevalue("_blocking_calls_fail")
    for function in watch.functions.values():
        function.can_block_in("quart_async_api/commands/connected.py", "connected")  # there is no loop to hold up
    service = await make(sender=False)
    job = await service.submit("double", service.called_back(receiver.url), number=1)
    async with connected(service.settings, with_tasks=True) as beside:
        await beside.submissions.cancel(job.id)
    await service.start_sender()
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"


async def test_only_what_was_asked_for_is_told(make: Make) -> None:
    service = await make(engine=True)
    job = await service.run("double", service.called_back(URL, "job.failed", "job.cancelled"), number=1)
    assert await service.callbacks_of(job) == []
    job = await service.run("flaky", service.called_back(URL, *TERMINAL_TYPES), failures=1)
    assert [callback["type"] for callback in await service.callbacks_of(job)] == ["job.succeeded"]


async def test_the_longest_url_can_be_called_back(make: Make) -> None:
    service = await make(sender=False)
    host = ("a." * LONGEST_HOST)[:LONGEST_HOST]
    url = f"https://{host}/".ljust(LONGEST_URL, "x")
    assert service.poster._targets.parse(url).url == url
    [callback] = await service.callbacks_of(await service.ended(url))
    assert callback["url"] == url


# Keeping house


async def test_what_was_delivered_is_forgotten_when_its_time_is_over_and_what_is_pending_never(
    make: Make, receiver: Receiver
) -> None:
    service = await make(result_ttl=1000)
    delivered = await service.ended(receiver.url)
    await service.settled(delivered)
    receiver.otherwise = answering(500)
    pending = await service.ended(receiver.url)
    await service.attempts(pending, 1)
    await service.let_go()
    await service.deliveries.clean(later(service.now(), 900))
    assert await service.callbacks_of(delivered)
    await service.deliveries.clean(later(service.now(), 1100))
    assert await service.callbacks_of(delivered) == []
    assert len(await service.callbacks_of(pending)) == 1
    left = await service.database.read("SELECT message_id FROM callback_attempts")
    assert [row["message_id"] for row in left] == [(await service.callbacks_of(pending))[0]["id"]]


async def test_origins_with_nothing_to_send_and_what_was_disabled_long_ago_are_forgotten(
    make: Make, receiver: Receiver
) -> None:
    service = await make(tombstone_ttl=10_000)
    receiver.otherwise = answering(410)
    await service.settled(await service.ended(receiver.url))
    await service.let_go()
    await service.deliveries.clean(later(service.now(), 9000))
    assert await service.origins() == {}
    receiver.otherwise = OK
    [callback] = await service.callbacks_of(await service.ended(receiver.url))
    assert callback["status"] == "failed"
    await service.deliveries.clean(later(service.now(), 11_000))
    [callback] = await service.settled(await service.ended(receiver.url))
    assert callback["status"] == "delivered"


# What the queries cost

NOW = "2026-01-01T00:00:00.000000Z"
ORIGIN = "http://127.0.0.1:1"
QUEUE = Queue("", ORIGIN)


async def tried(service: Service, **outcome: object) -> None:
    job = await service.ended(URL)
    worker = service.presence.id
    await service.queues.claim(worker, service.now(), Shares(10))
    [delivery] = await service.deliveries.due(QUEUE, service.now(), 10)
    await service.deliveries.record(QUEUE, worker, delivery, Outcome(NOW, 500, None, None, **outcome), NOW)  # type: ignore[arg-type]
    await service.callback_reading.of_job(job.id)


async def dropped(service: Service) -> None:
    [callback] = await service.callbacks_of(await service.ended(URL))
    await service.deliveries.drop(callback["id"], NOW)


async def replayed(service: Service) -> None:
    job = await service.ended(URL)
    [callback] = await service.callbacks_of(job)
    await service.deliveries.replay(job.id, callback["id"], NOW)


async def replayed_in_vain(service: Service) -> None:
    with suppress(CallbackNotFound):
        await service.deliveries.replay("job", "message", NOW)


async def cleaned(service: Service) -> None:
    await dropped(service)
    await service.deliveries.clean("2030-01-01T00:00:00.000000Z")


async def freed_from_the_future(service: Service) -> None:
    await service.ended(URL)
    assert await service.queues.free_from_the_future("2020-01-01T00:00:00.000000Z")


CALLS: dict[str, Callable[[Service], Awaitable[object]]] = {
    "tell": lambda service: service.ended(URL),
    "is_due": lambda service: service.queues.is_due(NOW),
    "due": lambda service: service.deliveries.due(QUEUE, NOW, 20),
    "is_superseded": lambda service: service.deliveries.is_superseded("message"),
    "record": lambda service: tried(service, again_at=NOW),
    "record, of an origin that stays closed": lambda service: tried(service, again_at=NOW, closed_until=NOW),
    "record, of a URL that is gone": lambda service: tried(service, gone=True),
    "release": lambda service: service.queues.release(QUEUE, "worker", NOW),
    "held": lambda service: service.queues.held("worker"),
    "drop": dropped,
    "replay": replayed,
    "replay, of nothing": replayed_in_vain,
    "secrets": lambda service: service.secrets.signing("key"),
    "is_revoked": lambda service: service.deliveries.is_revoked("key"),
    "refuse": lambda service: service.deliveries.refuse(QUEUE, NOW),
    "free_from_the_future": freed_from_the_future,
    "free_orphans": lambda service: service.queues.free_orphans(),
    "clean": cleaned,
}
# A row a process, a row a key or two, a row a URL that is gone, a row a key.
SMALL = ("workers", "webhook_secrets", "api_keys", "callback_disabled_targets", "owners")
SORTED = ("ORDER BY set_at, id", "ORDER BY a.id")  # the keys that wait for one origin; the attempts of one job
OURS = re.compile(r"\s*(WITH|SELECT|UPDATE|DELETE)\b.*\b(callback_\w+|webhook_secrets|api_keys)\b", re.DOTALL)
every_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


async def statements_of(service: Service, call: Callable[[Service], Awaitable[object]]) -> list[str]:
    """The statements of this call that look for rows of callbacks, with their values."""
    found: list[str] = []
    await traced(service.database, found.append)
    await service.write(("INSERT INTO workers (id, beat, started_at) VALUES (?, 0, '')", (service.presence.id,)))
    await call(service)
    return [sql for sql in found if OURS.match(sql)]


@on_sqlite
@every_call
async def test_sqlite_searches_by_an_index(
    make: Make, database_file: Path, call: Callable[[Service], Awaitable[object]]
) -> None:
    statements = await statements_of(await make(sender=False), call)
    assert statements
    with closing(sqlite3.connect(database_file)) as connection:
        for sql in statements:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
                assert any(order in sql for order in SORTED) or "TEMP B-TREE" not in step, f"{step}\n{sql}"
                if step.startswith("SCAN ") and not step.startswith("SCAN CONSTANT ROW"):
                    assert step.split()[1] in SMALL, f"{step}\n{sql}"


@pytest.fixture(scope="module")
def filled(postgresql: PostgreSQL) -> Iterator[psycopg.Connection]:
    """A PostgreSQL database with 5,000 deliveries, told to search only where nothing else is possible."""
    with postgresql.database(MIGRATED) as url, psycopg.connect(of_psycopg(url), autocommit=True) as connection:
        values = {"now": NOW, "origin": ORIGIN, "at_once": AT_ONCE}
        connection.execute(
            "INSERT INTO callback_deliveries (message_id, job_id, url, origin, type, body, status, tries, created_at, "
            "expires_at) SELECT gen_random_uuid()::text, gen_random_uuid()::text, '', %(origin)s, 'job.failed', '{}', "
            "'delivered', 1, %(now)s, %(now)s FROM generate_series(1, 5000)",
            values,
        )
        connection.execute(
            "INSERT INTO callback_attempts (message_id, number, at) SELECT message_id, 1, created_at "
            "FROM callback_deliveries"
        )
        connection.execute(
            "INSERT INTO callback_queues (owner, origin, next_at, set_at, failures, failing) "
            "SELECT (i %% 3)::text, gen_random_uuid()::text, NULL, %(now)s, 0, 0 FROM generate_series(1, 5000) i",
            values,
        )
        connection.execute("ANALYZE")
        for way in ("seqscan", "bitmapscan"):
            connection.execute(f"SET enable_{way} = off".encode())
        yield connection


@on_sqlite
@every_call
async def test_postgresql_searches_by_an_index(
    make: Make, filled: psycopg.Connection, call: Callable[[Service], Awaitable[object]]
) -> None:
    for sql in await statements_of(await make(sender=False), call):
        plan = "\n".join(row[0] for row in filled.execute(f"EXPLAIN {sql}".replace("WHEN 1", "WHEN true").encode()))
        for table in re.findall(r"Seq Scan on (\w+)", plan):
            assert table in SMALL, f"{sql}\n{plan}"
        assert plan.count("Index Cond") >= plan.count(" using callback_"), f"{sql}\n{plan}"
