"""Every query about jobs finds its rows by an index, and in their order, however many finished jobs lie around.

The statements are those that the store sends; SQLite and PostgreSQL are then asked for their plans.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quart_async_api.access.keys import KeyStore
from quart_async_api.callbacks.reading import CallbackReading
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.errors import JobNotFound, UserNotFound
from quart_async_api.jobs.bulk import Place, Wanted
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.jobs.store import JobStore
from quart_async_api.jobs.tally import tally
from quart_async_api.jobs.usage import Quota
from quart_async_api.moments import utc_now
from quart_async_api.services.figures import Figures
from quart_async_api.services.users import Users
from tests.postgresql import MIGRATED, PostgreSQL, of_psycopg
from tests.statements import counted
from tests.statements import traced as recorded

NOW = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-02T00:00:00.000000Z"
TASKS = ("test", "get")


def queued(task: str = "test", *, run_at: str = NOW, slot: str | None = None, owner: str | None = None) -> JobRecord:
    return JobRecord(
        id=new_id(),
        task=task,
        slot=slot,
        slot_limit=slot and 1,  # type: ignore[arg-type]
        owner=owner,
        status=Status.QUEUED,
        args="{}",
        urgency=0,
        max_attempts=1,
        timeout=None,
        created_at=NOW,
        run_at=run_at,
    )


class Traced:
    """A store, and what it asks its database: each statement with its values in it."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.statements: list[str] = []

    async def run(self, call: Callable[[JobStore], Awaitable[object]]) -> list[str]:
        """The statements of this call that look for rows."""
        self.statements.clear()
        await call(self.store)
        return [sql for sql in self.statements if re.match("SELECT|UPDATE|DELETE", sql)]


@pytest.fixture
async def traced(database_file: Path) -> AsyncIterator[Traced]:
    database = Database(f"sqlite://{database_file}")
    await database.start()
    try:
        with database.bind():
            made = Traced(JobStore(database, GroupCommit(database)))
            await recorded(database, made.statements.append)
            await made.store.workers.register("worker", NOW)
            yield made
    finally:
        await database.stop()


async def claim(store: JobStore) -> None:
    await store.submission.insert(queued(), 100)
    assert await store.claims.claim(TASKS, 10, "worker", LATER, new_id)


async def get(store: JobStore) -> None:
    with suppress(JobNotFound):
        await store.reading.get("nobody", None)


async def running(store: JobStore) -> JobRecord:
    await store.submission.insert(queued(), 100)
    [job] = await store.claims.claim(TASKS, 1, "worker", LATER, new_id)
    return job


async def record(store: JobStore) -> None:
    job = await running(store)
    assert await store.transitions.record(job.id, job.run_token or "", NOW, "log", {}, 100)


async def finish(store: JobStore) -> None:
    job = await running(store)
    assert await store.transitions.finish(job.id, job.run_token or "", Status.SUCCEEDED, NOW, 60)


async def retry(store: JobStore) -> None:
    job = await running(store)
    assert await store.transitions.retry(job.id, job.run_token or "", NOW, LATER, "{}", 60)


async def give_back(store: JobStore) -> None:
    job = await running(store)
    assert await store.transitions.give_back(job.id, job.run_token or "", NOW, 60)


async def cancel(store: JobStore) -> None:
    await store.transitions.cancel((await running(store)).id, NOW, 60)


async def admit(store: JobStore) -> None:
    for owner in ("a", None, "b", "a"):
        await store.submission.insert(queued(slot="slot", owner=owner), 100)
    await store.submission.insert(queued(slot="slot")._replace(urgency=-1), 100)
    for _ in range(5):
        [job] = await store.claims.claim(TASKS, 5, "worker", LATER, new_id)
        assert await store.transitions.finish(job.id, job.run_token or "", Status.SUCCEEDED, NOW, 60)


async def promote(store: JobStore) -> None:
    await store.submission.insert(queued(run_at=LATER, slot="slot"), 100)
    await store.submission.insert(queued(run_at=LATER, slot="slot"), 100)
    assert await store.claims.claim(TASKS, 5, "worker", LATER, new_id)


async def pause(store: JobStore) -> None:
    await store.submission.insert(queued(), 100)
    await store.pauses.pause("test", NOW)
    await store.pauses.look()
    await store.pauses.resume("test", LATER)
    await store.pauses.look()


async def expire(store: JobStore) -> None:
    await finish(store)
    assert await store.retention.expire(LATER, 60)


async def bury(store: JobStore) -> None:
    await running(store)
    assert await store.crashes.bury("worker", NOW, 60, 3, "{}")


async def crash(store: JobStore) -> None:
    job = await running(store)
    await store.crashes.crash(job.id, job.run_token or "", NOW, 60, 3, "{}")


def users(store: JobStore) -> Users:
    return Users(store.database, store.commits)


async def get_user(store: JobStore) -> None:
    with suppress(UserNotFound):
        await users(store).get(1)


async def of_bulk(store: JobStore, owner: str | None, **filters: str) -> None:
    wanted = Wanted(owner, (Status.FAILED,), LATER, "jobs-bulk", **filters)
    await store.bulk.cancel("bulk", await store.bulk.begin("bulk", wanted), ["job"], NOW, 60)
    await store.bulk.page(wanted, Place(1, 0, Status.FAILED, "00000000-0000-7000-8000-000000000000"), 50)
    await store.bulk.jobs(["job"])


async def figures(store: JobStore) -> None:
    hour = Figures(store.database, store.commits, 60, utc_now)
    await hour.write()
    await hour.read()
    await hour.forget(NOW)


async def callbacks(store: JobStore, owner: str | None, **filters: Any) -> None:
    await CallbackReading(store.database).page(26, owner, **filters)


CALLS: dict[str, Callable[[JobStore], Awaitable[object]]] = {
    "insert": lambda store: store.submission.insert(queued()._replace(owner="key"), 100, quota=Quota(10, 10, 10**6)),
    "claim": claim,
    "is_due": lambda store: store.reading.is_due(TASKS, NOW),
    "get": get,
    "unfinished": lambda store: store.reading.unfinished("key"),
    "attempts": lambda store: store.reading.attempts("job"),
    "page": lambda store: store.reading.page(26, None),
    "page, of a status": lambda store: store.reading.page(26, None, status=Status.FAILED),
    "page, of a task": lambda store: store.reading.page(26, None, task="test"),
    "page, of a status and a task": lambda store: store.reading.page(26, None, status=Status.FAILED, task="test"),
    "page, the next": lambda store: store.reading.page(26, None, before="00000000-0000-7000-8000-000000000000"),
    "page, the next of a status": lambda store: store.reading.page(26, None, before="x", status=Status.FAILED),
    "page, the next of a task": lambda store: store.reading.page(26, None, before="x", task="test"),
    "beginning": lambda store: store.reading.beginning("019", None),
    "beginning, of a key": lambda store: store.reading.beginning("019", "key"),
    "page, of the retries of a job": lambda store: store.reading.page(26, None, retry_of="job"),
    "page, of the retries of a job of a key": lambda store: store.reading.page(26, "key", retry_of="job"),
    "read the pauses": lambda store: store.pauses.refresh(),
    "move the jobs of a paused task": pause,
    "counts by status": lambda store: tally(store.database, None),
    "counts by status, of a key": lambda store: tally(store.database, "key"),
    "bulk, all of a status": lambda store: of_bulk(store, None),
    "bulk, of a task of a key": lambda store: of_bulk(store, "key", task="test", created_after=NOW),
    "workers": lambda store: store.workers.all(),
    "figures": figures,
    "callbacks, of a key": lambda store: callbacks(store, "key"),
    "callbacks, of a status": lambda store: callbacks(store, None, status="failed"),
    "callbacks, of a status of a key": lambda store: callbacks(store, "key", status="failed", type="job.failed"),
    "callbacks, of an origin": lambda store: callbacks(store, None, origin="https://example.org:443"),
    "callbacks, of an origin of a key": lambda store: callbacks(store, "key", origin="https://example.org:443"),
    "callbacks, the next": lambda store: callbacks(store, "key", before=10),
    "events": lambda store: store.history.events("job", 0),
    "events with their times": lambda store: store.history.lines("job", 0),
    "events_after": lambda store: store.history.events_after((0, 0)),
    "last_place": lambda store: store.history.last_place(),
    "place": lambda store: store.history.place("job", 1),
    "new events": lambda store: store.history.new().read(),
    "new events in order": lambda store: store.history.new_in_order().read(),
    "runs, and whether somebody wants them cancelled": lambda store: store.reading.runs("worker"),
    "record": record,
    "finish": finish,
    "retry": retry,
    "give_back": give_back,
    "cancel": cancel,
    "bury": bury,
    "crash": crash,
    "dismiss": lambda store: store.workers.dismiss("worker"),
    "expire": expire,
    "admit the next of a slot": admit,
    "promote": promote,
    "adopt": lambda store: store.adoption.adopt(),
    "a user": get_user,
    "page of users": lambda store: users(store).page(101, 5),
    "add a user": lambda store: users(store).create("a", "a@example.org", most=10),
    "version of the keys": lambda store: KeyStore(store.database, store.commits).version(),
}
# Bounded by what they hold: a row a process, a row a schedule's minute of one day, a row an API key, a row a task.
SMALL = ("workers", "schedule_ticks", "job_usage", "task_states")
# Parts of a statement that end in a LIMIT, or are one row each.
PARTS = ("queued", "unfinished", "due", "began_in_the_future", "head", "admitted", "turns", "found")
# An index of nothing but the wanted rows: of those there are none, unless an older version runs beside this one.
MISPLACED = " INDEX jobs_misplaced"
# A page of all jobs walks the primary key from its end, and stops when it is full.
WALKS = CALLS["page"]

# They walk all that is newer (older) than the moment. An id begins with its moment: a bound on it would be enough.
BY_MOMENT: dict[str, Callable[[JobStore], Awaitable[object]]] = {
    "page, created after": lambda store: store.reading.page(26, None, created_after=NOW),
    "page, created before": lambda store: store.reading.page(26, None, created_before=NOW),
}

every_call = pytest.mark.parametrize(
    "call",
    [
        *(pytest.param(call, id=name) for name, call in CALLS.items()),
        *(pytest.param(call, id=name) for name, call in BY_MOMENT.items()),
    ],
)


@every_call
async def test_sqlite_searches_by_an_index_and_sorts_nothing(
    traced: Traced, database_file: Path, call: Callable[[JobStore], Awaitable[object]]
) -> None:
    statements = await traced.run(call)
    assert statements
    with closing(sqlite3.connect(database_file)) as connection:
        for sql in statements:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
                assert "TEMP B-TREE" not in step, f"{step}\n{sql}"
                if step.startswith("SCAN ") and not step.startswith("SCAN CONSTANT ROW"):
                    table = step.split()[1]
                    in_order = call is WALKS and step == "SCAN jobs USING INDEX sqlite_autoindex_jobs_1"
                    assert in_order or step.endswith(MISPLACED) or table in (*SMALL, *PARTS), f"{step}\n{sql}"


@pytest.fixture(scope="module")
def filled(postgresql: PostgreSQL) -> Iterator[psycopg.Connection]:
    """A PostgreSQL database with 5,000 finished jobs, told to search and sort only where nothing else is possible."""
    with postgresql.database(MIGRATED) as url, psycopg.connect(of_psycopg(url), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobs (id, task, status, args, urgency, max_attempts, created_at, run_at, expires_at, "
            "attempt, failures, crashes, last_event) SELECT gen_random_uuid()::text, 'test', 'succeeded', '{}', 0, 1, "
            "%(now)s, %(now)s, %(now)s, 1, 0, 0, 1 FROM generate_series(1, 5000)",
            {"now": NOW},
        )
        connection.execute(
            "INSERT INTO job_events (job_id, number, name, data, created_at) "
            "SELECT id, 1, 'succeeded', '{}', created_at FROM jobs"
        )
        connection.execute(
            "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome) "
            "SELECT id, 1, created_at, created_at, 'succeeded' FROM jobs"
        )
        connection.execute("ANALYZE")
        for way in ("seqscan", "sort", "bitmapscan"):
            connection.execute(f"SET enable_{way} = off".encode())
        yield connection


@every_call
async def test_postgresql_searches_by_an_index_and_sorts_nothing(
    traced: Traced, filled: psycopg.Connection, call: Callable[[JobStore], Awaitable[object]]
) -> None:
    for sql in await traced.run(call):
        plan = "\n".join(row[0] for row in filled.execute(f"EXPLAIN {sql}".encode()))
        for table in re.findall(r"Seq Scan on (\w+)", plan):
            assert table in SMALL, f"{sql}\n{plan}"
        assert "Sort" not in plan, f"{sql}\n{plan}"
        # Without a condition, an index serves the order alone, and is walked from its end.
        walked = plan.count(" using jobs_") - plan.count(" using jobs_misplaced")
        assert call is WALKS or plan.count("Index Cond") >= walked, f"{sql}\n{plan}"


async def steps(traced: Traced, call: Callable[[JobStore], Awaitable[object]]) -> int:
    """The instructions that SQLite runs for this call: they grow with the rows that it visits."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    await counted(traced.store.database, step)
    await call(traced.store)
    return count


async def test_a_claim_a_submission_and_a_sweep_cost_the_same_whatever_is_queued(
    traced: Traced, database_file: Path
) -> None:
    async def claim_one(store: JobStore) -> None:
        [job] = await store.claims.claim(TASKS, 1, "worker", NOW, new_id)
        assert await store.transitions.finish(job.id, job.run_token or "", Status.SUCCEEDED, NOW, 60)

    async def submit(store: JobStore) -> None:
        await store.submission.insert(queued(owner="b"), 1_000_000)

    async def sweep(store: JobStore) -> None:
        await store.reading.is_due(("get",), NOW)  # looks at all it can find: no job is due

    measured = []
    for backlog in (10, 2_000):
        lines = [
            ("ready", "test", "a", None),  # of another owner
            ("ready", "lacking", "a", None),  # that this process cannot run
            ("held", "test", "a", "slot"),  # of a task at its bound
            ("delayed", "test", "a", None),
        ]
        with closing(sqlite3.connect(database_file)) as connection, connection:
            for stage, task, owner, slot in lines:
                connection.executemany(
                    "INSERT INTO jobs (id, task, status, args, urgency, max_attempts, created_at, run_at, owner, stage, turn, "
                    "slot, slot_limit, attempt, failures, crashes, last_event) "
                    "VALUES (?, ?, 'queued', '{}', 0, 1, ?, ?, ?, ?, ?, ?, 1, 0, 0, 0, 0)",
                    [
                        (new_id(), task, NOW, LATER if stage == "delayed" else NOW, owner, stage, number, slot)
                        for number in range(backlog)
                    ],
                )
        await submit(traced.store)
        measured.append([await steps(traced, call) for call in (claim_one, submit, sweep)])
    for few, many in zip(*measured, strict=True):
        assert many <= 1.1 * few, measured
