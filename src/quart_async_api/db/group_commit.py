"""Group commit: concurrent units of work share one transaction, and each waits for its commit.

A unit is a generator that yields statements and is sent their results, so that a whole batch runs in one visit to
SQLite's thread, and the same unit runs on PostgreSQL.

SQLite runs one transaction at a time. PostgreSQL runs those of several processes at once (Read Committed): there, a unit locks
the rows whose state it relies on, or changes them by a statement that has this state in its condition. A comment in a statement
is for PostgreSQL alone, such as a FOR UPDATE.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from tortoise.exceptions import DBConnectionError

from ..errors import DatabaseUnavailable
from .cancellation import finish
from .connection import Database
from .failures import as_unavailable

if TYPE_CHECKING:
    import aiosqlite
    import psycopg

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")
Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Result:
    """The result of a statement: the number of changed rows, and the returned rows."""

    count: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Hold:
    """Waits on PostgreSQL until no other transaction holds this key, and holds it until the commit. The result counts 1 there.

    The unit goes on after the other units of the batch have run, except those that wait for keys, too. From there on it must
    not wait for the row of a transaction that may wait for this key. `shared`: together with others that share it.
    """

    key: str
    shared: bool = False


class Unprepared(NamedTuple):
    """A statement that PostgreSQL plans at each call: a plan from the time when the table was empty would read all of it."""

    sql: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Try:
    """Holds a key until the commit, or does not wait: the result counts 0 if another transaction holds it. SQLite: 1."""

    key: str


class Sum(NamedTuple):
    """A statement that adds numbers to a row that many units change. Its first value names the row.

    On PostgreSQL, the sums for a row are added up and written once, at the end of the batch, in the order of the rows.
    """

    sql: str
    values: Sequence[Any]


class Late(NamedTuple):
    """A statement without a result about a row that many units change: on PostgreSQL, it runs after the sums.

    Its first two values name the row. All that runs then is in the order of these names.
    """

    sql: str
    values: Sequence[Any]

    @property
    def key(self) -> str:
        return " ".join(map(str, self.values[:2]))


@dataclass(frozen=True, slots=True)
class Last:
    """Goes on with the unit after the sums, in the order of the keys. Nothing on SQLite.

    The next statement of the unit locks the row that `key` names. What comes after LAST_OF_ALL must not wait for such a row.
    """

    key: str


LAST_OF_ALL = Last("\U0010ffff")


@dataclass(frozen=True, slots=True)
class AtEnd:
    """On PostgreSQL, runs a unit after the sums, which may raise. `hold`: held while they are written. Nothing on SQLite."""

    check: "Callable[[], Unit[None]]"
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class InStep:
    """Runs units on PostgreSQL in step: the next statements of all of them go there together. Use `in_step`."""

    units: "Sequence[Unit[Any]]"


Statement = tuple[str, Sequence[Any]]
Step = Statement | Hold | Try | Last | AtEnd | InStep
Unit = Generator[Step, Result, T]


def in_step(units: Iterable[Unit[T]]) -> Unit[list[T]]:
    """Run units that may see each other's changes at any of their statements. Return their outcomes."""
    ended = yield InStep(list(units))
    return cast("list[T]", ended.rows)


def one(statement: Statement) -> Unit[Result]:
    """Run a statement, for `in_step`."""
    return (yield statement)


class Crossed(Exception):
    """Another transaction was in the way. The same unit may succeed when it runs again."""


BATCH = 500  # units in one transaction: bounds how long the write lock is held
ATTEMPTS = 6  # to commit what other transactions were in the way of


Settled = Callable[[bool], None]


@dataclass(slots=True, eq=False)
class _Pending:
    unit: Callable[..., Unit[Any]]
    items: list[Any]  # the item of a unit that takes many; empty for a unit of its own
    settled: Settled | None
    outcome: asyncio.Future[Any]

    def settle(self, outcome: Any, error: Exception | None = None) -> None:
        """Call `settled`, then give the outcome to the caller; only the first time."""
        settled, self.settled = self.settled, None
        if settled is not None:
            try:
                settled(error is None)
            except Exception:
                log.exception("the signal of a unit failed")
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(error)
            self.outcome.exception()  # marks it as retrieved: the caller may be cancelled


class GroupCommit:
    """Runs units on `database`: all units that wait share the next transaction.

    Parameters in SQL are `?`. A unit sees the changes of earlier units. If a unit fails, only that unit is rolled back.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._pending: list[_Pending] = []
        self._worker: asyncio.Task[None] | None = None
        self._held = AsyncExitStack()
        self._connection: Any = None
        self.commits = 0

    async def run(self, make: Callable[[], Unit[T]], settled: Settled | None = None) -> T:
        """Run the unit that `make` returns, and return its result after the commit.

        If the caller is cancelled, the unit is still committed. `settled` is called in any case, once and before the caller
        goes on: with True after the commit, with False if nothing was written or that is unknown.
        Raises DatabaseUnavailable, or the exception of the unit.
        """
        return cast("T", await self._add(make, [], settled))

    async def together(
        self, unit: Callable[[list[Item]], Unit[list[T]]], item: Item, settled: Settled | None = None
    ) -> T:
        """Do the same with one unit for the items of all callers that wait: it returns a result for each, in their order.

        If the unit fails, it runs once more for each item alone.
        """
        return cast("T", await self._add(unit, [item], settled))

    def _add(self, unit: Callable[..., Unit[Any]], items: list[Any], settled: Settled | None) -> asyncio.Future[Any]:
        self.database.refuse_if_held()
        pending = _Pending(unit, items, settled, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if self._worker is None:
            # In a clean context: the caller's may hold a transaction, which other units must not join.
            self._worker = asyncio.create_task(self._work(), name="group commit", context=contextvars.Context())
        return pending.outcome

    @property
    def waiting(self) -> int:
        """Units that wait for the next transaction."""
        return len(self._pending)

    async def close(self) -> None:
        """Wait for all running units."""
        while self._worker is not None:
            await asyncio.wait((self._worker,))

    async def _work(self) -> None:
        try:
            with self.database.bind():
                while self._pending:
                    batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                    try:
                        await self._commit(batch)
                    finally:  # so that no caller waits forever
                        _interrupt(batch)
                    if not self._pending:
                        await self._give_back()  # meanwhile, some may come
        finally:
            self._worker = None
            left, self._pending = self._pending, []  # none, unless the connection could not be given back
            _interrupt(left)

    async def _commit(self, batch: list[_Pending], attempts: int = ATTEMPTS) -> None:
        works = _works(batch)
        try:
            outcomes = await self._run([make for make, _ in works])
        except Exception as error:
            if isinstance(error, Crossed):
                if attempts <= 1:
                    error = DatabaseUnavailable(str(error))
                else:
                    for pending in batch:
                        await self._commit([pending], attempts - 1)
                    return
            if len(batch) > 1 and as_unavailable(error) is None:
                # One of the units is at fault: run each in its own transaction, so that only that one fails.
                for pending in batch:
                    await self._commit([pending])
                return
            for pending in batch:
                pending.settle(None, as_unavailable(error) or error)
            return
        self.commits += 1
        for (_, together), outcome in zip(works, outcomes, strict=True):
            for pending, result in zip(together, outcome if together[0].items else [outcome], strict=True):
                pending.settle(result)

    async def _run(self, makes: list[Callable[[], Unit[Any]]]) -> list[Any]:
        if self.database.url.file is None:
            return await self._run_on_postgresql(makes)
        async with self.database.client.acquire_connection() as connection:
            from . import sqlite_batch
            from .safe_sqlite import in_its_thread

            sqlite = cast("aiosqlite.Connection", connection)
            try:
                return await finish(in_its_thread(sqlite, sqlite_batch.run, makes))
            finally:
                makes.clear()  # aiosqlite's thread keeps its last call until the next one

    async def _run_on_postgresql(self, makes: Sequence[Callable[[], Unit[Any]]]) -> list[Any]:
        """While batches keep coming, they have one connection, which the pool checks once and which keeps what it prepared."""
        from . import lockstep
        from .safe_psycopg import UNAVAILABLE

        try:
            if self._connection is None:
                self._connection = await self._held.enter_async_context(self.database.client.acquire_connection())
            connection: psycopg.AsyncConnection[dict[str, Any]] = self._connection
            return await finish(lockstep.run(connection, makes))
        except BaseException as error:
            await self._give_back()
            if isinstance(error, lockstep.CROSSED):
                raise Crossed("other transactions were in the way") from error
            if isinstance(error, UNAVAILABLE):
                raise DBConnectionError(error) from error
            raise

    async def _give_back(self) -> None:
        self._connection = None
        await self._held.aclose()


def _interrupt(batch: list[_Pending]) -> None:
    for pending in batch:
        pending.settle(None, DatabaseUnavailable("the write was interrupted"))


def _works(batch: list[_Pending]) -> list[tuple[Callable[[], Unit[Any]], list[_Pending]]]:
    """Return what to run for a batch, with the callers of each."""
    together: dict[object, list[_Pending]] = {}
    for pending in batch:
        # In the place of its last item: what was asked before an item is written before it.
        key = pending.unit if pending.items else pending
        callers = together.pop(key, [])
        callers.append(pending)
        together[key] = callers
    return [(_make(callers), callers) for callers in together.values()]


def _make(callers: list[_Pending]) -> Callable[[], Unit[Any]]:
    items = [item for pending in callers for item in pending.items]
    return partial(callers[0].unit, items) if items else callers[0].unit
