"""The database of one application: opened once at start, bound to every task that uses it, closed at stop."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient
from tortoise.context import get_current_context
from tortoise.timezone import parse_timezone
from tortoise.transactions import in_transaction

from ..errors import DatabaseBehind, DatabaseUnavailable, DatabaseUnusable
from .failures import reason, translated
from .packages import OF_THE_SERVICE, Packages
from .reader import Reader
from .sqlite_reader import SqliteReader
from .tortoise_internals import SafeClient, SafeContext, SafeTransaction, bound
from .url import parse

PING_SECONDS = 5.0
MIGRATE = "quart-async-api migrate"


class _Context(SafeContext):
    """Tortoise's, that knows its database."""

    def __init__(self, database: "Database") -> None:
        super().__init__()
        self.database = database


def bound_database() -> "Database | None":
    """Return the database that this task is bound to."""
    context = get_current_context()
    return context.database if isinstance(context, _Context) else None


class Database:
    """The database of `url`, with the tables of these packages. Raises SettingsError for an invalid URL.

    `location` is the URL without its password; `starts` counts how often Tortoise was initialised.
    """

    def __init__(self, url: str, packages: Packages = (OF_THE_SERVICE,)) -> None:
        self.url = parse(url)
        self.packages = packages
        self.location = self.url.printable
        self.starts = 0
        self.opened_by: object = None  # for those who are bound to it
        self._context = _Context(self)
        self._zone: object = None  # kept: else a DatetimeField reads a file, in the event loop
        self._holders: Collection[asyncio.Task[Any] | None] = ()
        self._reader: Reader | None = None
        self._started = False

    def bind(self) -> AbstractContextManager[None]:
        """Bind the models to this database, in this task and its child tasks. Different tasks may use different databases."""
        return bound(self._context)

    async def start(self) -> None:
        """Connect. Creates no file and no table.

        Raises DatabaseBehind if `migrate` has not been run yet, DatabaseUnusable if `migrate` would not help.
        """
        if self._started:
            return
        if self.url.file is not None:
            await asyncio.to_thread(_check_file, self.url.file)
        try:
            self.starts += 1
            self._zone = await asyncio.to_thread(parse_timezone, "UTC")
            with self.bind():
                await self._context.init(config=self.url.config(self.packages))
            async with self.transaction():  # takes the write lock, so it fails for a read-only file
                pass
            self._holders = cast("SafeClient", self.client).holders
            self._reader = self._new_reader()
        except BaseException as error:
            await self.stop()
            if (why := reason(error)) is not None:
                raise DatabaseUnusable(f"cannot use {self.location}: the database {why}") from error
            raise
        self._started = True

    async def stop(self) -> None:
        """Close every connection, if any is open."""
        self._started = False
        if self._reader is not None:
            await self._reader.close()
        with self.bind():
            await self._context.close_connections()

    async def ping(self) -> None:
        """Check that the database responds. Raises DatabaseUnavailable."""
        try:
            with translated():
                async with asyncio.timeout(PING_SECONDS):
                    await self.client.execute_query("SELECT 1")
        except TimeoutError as error:
            if self.url.file is not None:
                with translated():
                    await asyncio.to_thread(_try_lock, self.url.file)
            raise DatabaseUnavailable(f"the database did not answer within {PING_SECONDS:g} s") from error

    async def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one query as tuples, with `?` for its parameters. Raises DatabaseUnavailable.

        They have every write that was committed before the call; inside a transaction, also those of the transaction.
        """
        if self.url.file is None:
            sql = sql.replace("?", "%s")
        if (reader := self._beside()) is not None:
            return await reader.read(sql, values)
        return [tuple(row.values()) for row in await self._read_inside(sql, values)]

    async def read(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """The same as dicts, by the names of the columns."""
        if self.url.file is None:
            sql = sql.replace("?", "%s")
        if (reader := self._beside()) is not None:
            return await reader.read(sql, values, named=True)
        return await self._read_inside(sql, values)

    @property
    def hops(self) -> int:
        """How often reads went to another thread, or to the server: those that wait together share one."""
        return 0 if self._reader is None else self._reader.hops

    @property
    def pool(self) -> Mapping[str, int]:
        """The connections of the PostgreSQL pool, `used` and `free`, and the callers `waiting` for one; empty on SQLite."""
        if self.url.file is not None or not self._started:
            return {}
        from .safe_psycopg import pool_of

        return pool_of(self.client)

    @property
    def is_open(self) -> bool:
        return self._started

    @property
    def is_held(self) -> bool:
        """Return whether this task has a transaction open. On SQLite nobody else can write then."""
        return bool(self._holders) and asyncio.current_task() in self._holders

    def refuse_if_held(self) -> None:
        """Raise RuntimeError if this task has a transaction open: a write by itself would wait for it, for ever on SQLite."""
        if self.is_held:
            raise RuntimeError("this writes to the database by itself, so it cannot be inside a transaction")

    @property
    def is_in_transaction(self) -> bool:
        """Return whether this task, or the task that started it, has a transaction open."""
        return isinstance(self.client, TransactionalDBClient)

    def check_transaction(self) -> None:
        """Raise TransactionManagementError if this task was started in a transaction that has ended."""
        if isinstance(client := self.client, SafeTransaction):
            client.check()

    def _beside(self) -> Reader | None:
        """Return the reader; None inside a transaction, whose reads must have its writes."""
        return None if self.is_in_transaction else self._reader

    def _new_reader(self) -> Reader:
        if self.url.file is not None:
            return SqliteReader(self.url.file, self.url.credentials["busy_timeout"] / 1000)
        from .postgresql_reader import PostgresqlReader

        return PostgresqlReader(self.client)

    async def _read_inside(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with translated():
            return [dict(row) for row in await self.client.execute_query_dict(sql, list(values))]

    @property
    def client(self) -> BaseDBAsyncClient:
        """Return Tortoise's client; inside a transaction, the client of the transaction."""
        return self._context.db()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TransactionalDBClient]:
        """One unit: all of it is written, or none. Inside another it is a savepoint.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE). A unit that is cancelled while it commits is
        written, and the caller sees the cancellation.
        """
        with self.bind():
            async with in_transaction(self.url.dialect) as client:
                yield client


def _try_lock(file: Path) -> None:
    """Take the write lock and release it. Raises sqlite3.OperationalError if it is taken."""
    connection = sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=0, isolation_level=None)
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def _check_file(file: Path) -> None:
    if not file.parent.is_dir():
        raise DatabaseUnusable(f"cannot use sqlite://{file}: there is no folder {file.parent}")
    if not file.exists():
        raise DatabaseBehind(f"there is no database {file} yet: run `{MIGRATE}`")
    if not file.is_file():
        raise DatabaseUnusable(f"cannot use sqlite://{file}: it is no file")
    if not os.access(file, os.W_OK):  # SQLite would open it and fail at the first write
        raise DatabaseUnusable(f"cannot use sqlite://{file}: the database is not writable")
