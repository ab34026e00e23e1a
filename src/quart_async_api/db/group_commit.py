"""Group commit: units of work that are in flight together share one transaction, and each waits for the commit of its own.

A unit is a generator that yields statements and is sent their results, so that a whole batch runs in one visit to
SQLite's thread, and the same unit runs on PostgreSQL.
"""

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tortoise.exceptions import DBConnectionError

from ..errors import DatabaseUnavailable
from .cancellation import finish
from .connection import Database
from .failures import as_unavailable

if TYPE_CHECKING:
    import aiosqlite
    import psycopg

T = TypeVar("T")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement did: the rows that it changed, and those that it answered with."""

    count: int
    rows: Rows


Statement = tuple[str, Sequence[Any]]
Unit = Generator[Statement, Result, T]

BATCH = 500  # units in one transaction: bounds how long the write lock is held
_LOCK = 0x716161_6A6F6273  # of PostgreSQL's advisory locks, the one that a batch holds


@dataclass(slots=True, eq=False)
class _Pending:
    make: Callable[[], Unit[Any]]
    outcome: asyncio.Future[Any]


class GroupCommit:
    """Runs units on `database`, as many in one transaction as wait when the one before has ended.

    SQL is written with `?` for parameters. A unit sees what the units before it did. One that fails is rolled back alone.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[_Pending] = []
        self._worker: asyncio.Task[None] | None = None
        self.commits = 0

    async def run(self, make: Callable[[], Unit[T]]) -> T:
        """Run the unit that `make` makes; return when its transaction is committed.

        A caller that is cancelled leaves its unit to be committed. Raises DatabaseUnavailable, or what the unit raised.
        """
        pending = _Pending(make, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if self._worker is None:
            # In a clean context: the caller's may hold a transaction, which must not become everybody's.
            self._worker = asyncio.create_task(self._work(), name="group commit", context=contextvars.Context())
        return cast("T", await asyncio.shield(pending.outcome))

    async def close(self) -> None:
        """Wait for what is in flight."""
        while self._worker is not None:
            await asyncio.wait((self._worker,))

    async def _work(self) -> None:
        try:
            with self._database.bind():
                while self._pending:
                    batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                    try:
                        await self._commit(batch)
                    finally:  # whatever happened, nobody waits for ever
                        for pending in batch:
                            _settle(pending.outcome, DatabaseUnavailable("the write was interrupted"))
        finally:
            self._worker = None

    async def _commit(self, batch: list[_Pending]) -> None:
        try:
            outcomes = await self._run([pending.make for pending in batch])
        except Exception as error:
            if len(batch) > 1 and as_unavailable(error) is None:
                # One of them is at fault: each by itself, so that it fails alone.
                for pending in batch:
                    await self._commit([pending])
                return
            for pending in batch:
                _settle(pending.outcome, as_unavailable(error) or error)
            return
        self.commits += 1
        for pending, outcome in zip(batch, outcomes, strict=True):
            if not pending.outcome.done():
                pending.outcome.set_result(outcome)

    async def _run(self, makes: list[Callable[[], Unit[Any]]]) -> list[Any]:
        async with self._database.client.acquire_connection() as connection:
            if self._database.url.file is not None:
                from .safe_sqlite import in_its_thread

                sqlite = cast("aiosqlite.Connection", connection)
                return await finish(in_its_thread(sqlite, _run_on_sqlite, makes))
            return await finish(_run_on_postgresql(connection, makes))


async def run_inside(database: Database, unit: Unit[T]) -> T:
    """Run a unit in the transaction that is open in this task. Raises what the database raises."""
    try:
        statement = next(unit)
        while True:
            sql, values = statement
            if database.url.file is None:
                sql = sql.replace("?", "%s")
            count, rows = await database.client.execute_query(sql, list(values))
            statement = unit.send(Result(count, [dict(row) for row in rows]))
    except StopIteration as end:
        return cast("T", end.value)


def _settle(outcome: asyncio.Future[Any], error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)
        outcome.exception()  # a caller that was cancelled never asks


def _run_on_sqlite(connection: sqlite3.Connection, makes: list[Callable[[], Unit[Any]]]) -> list[Any]:
    def execute(statement: Statement) -> Result:
        cursor = connection.execute(*statement)
        rows = [dict(row) for row in cursor.fetchall()] if cursor.description else []
        return Result(cursor.rowcount if not rows else len(rows), rows)

    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = []
        for make in makes:
            unit = make()
            try:
                statement = next(unit)
                while True:
                    statement = unit.send(execute(statement))
            except StopIteration as end:
                outcomes.append(end.value)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return outcomes


async def _run_on_postgresql(
    connection: "psycopg.AsyncConnection[dict[str, Any]]", makes: list[Callable[[], Unit[Any]]]
) -> list[Any]:
    from .safe_psycopg import UNAVAILABLE

    async def execute(statement: Statement) -> Result:
        sql, values = statement
        cursor = await connection.execute(sql.replace("?", "%s"), values)
        rows = await cursor.fetchall() if cursor.description else []
        return Result(cursor.rowcount, rows)

    try:
        async with connection.transaction():
            # One batch at a time, of all processes: events are numbered in the order in which they are committed, and what
            # a unit has read does not change under it.
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            outcomes = []
            for make in makes:
                unit = make()
                try:
                    statement = next(unit)
                    while True:
                        statement = unit.send(await execute(statement))
                except StopIteration as end:
                    outcomes.append(end.value)
    except UNAVAILABLE as error:
        raise DBConnectionError(error) from error
    return outcomes
