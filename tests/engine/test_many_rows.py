"""What a request asks the database costs as much among a million users and jobs as among a thousand."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import Status
from quart_async_api.jobs.store import JobStore
from quart_async_api.jobs.usage import Quota
from quart_async_api.services.users import Users
from tests.statements import counted

from .test_query_plans import LATER, NOW, queued

OLDEST = "00000001-0000-7000-8000-000000000000"
USERS = """
    WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO users (name, email, email_key) SELECT i, i, i FROM n
"""
JOBS = """
    WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO jobs (id, task, status, args, urgency, max_attempts, created_at, run_at, expires_at, owner, attempt,
    failures, crashes, last_event, bytes)
    SELECT printf('%08x-0000-7000-8000-000000000000', i), 'test', 'succeeded', '{}', 0, 1, ?, ?, ?,
    CASE WHEN i % 2 THEN 'key' END, 1, 0, 0, 1, 100 FROM n
"""

Call = Callable[[JobStore, Users], Awaitable[object]]

CALLS: dict[str, Call] = {
    "a user": lambda store, users: users.get(1),
    "page of users": lambda store, users: users.page(101, 5),
    "add a user": lambda store, users: users.create("a", f"{new_id()}@example.org", most=2_000_000),
    "page of jobs": lambda store, users: store.reading.page(26, None),
    "page of jobs of a key": lambda store, users: store.reading.page(26, "key"),
    "page of jobs of a status": lambda store, users: store.reading.page(26, None, status=Status.SUCCEEDED),
    "a job": lambda store, users: store.reading.get(OLDEST, None),
    "attempts of a job": lambda store, users: store.reading.attempts(OLDEST),
    "submit": lambda store, users: store.submission.insert(queued(owner="key"), 100, quota=Quota(10**4, 10**7, 10**12)),
}


@pytest.fixture
async def database(database_file: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite://{database_file}")
    await database.start()
    yield database
    await database.stop()


def fill(file: Path, first: int, last: int) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(USERS, (first, last))
        connection.execute(JOBS, (first, last, NOW, NOW, LATER))


@pytest.mark.parametrize("rows", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_a_million_users_and_jobs_cost_as_much_as_a_thousand(
    database: Database, database_file: Path, rows: int
) -> None:
    commits = GroupCommit(database)
    store, users = JobStore(database, commits), Users(database, commits)

    async def steps(call: Call) -> int:
        """The instructions that SQLite runs for this call."""
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        await counted(database, step)
        await call(store, users)
        return count

    await asyncio.to_thread(fill, database_file, 1, 1_000)
    few = {name: await steps(call) for name, call in CALLS.items()}
    await asyncio.to_thread(fill, database_file, 1_001, rows)
    many = {name: await steps(call) for name, call in CALLS.items()}
    assert {name: (few[name], most) for name, most in many.items() if most > 1.2 * few[name]} == {}
