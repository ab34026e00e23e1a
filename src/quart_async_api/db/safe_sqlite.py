"""Tortoise's SQLite engine, made to survive cancellation, contending processes and a file that goes away.

Every use of aiosqlite's private parts is here. tests/unit/test_internals.py fails when one of them changes.

The module's name matters: migrations pick their schema editor by the `sqlite` in it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import aiosqlite
from tortoise.backends.sqlite.client import (
    SqliteClient,
    SqliteTransactionWrapper,
    translate_exceptions,
)
from tortoise.backends.sqlite.executor import SqliteExecutor

from .cancellation import finish
from .open_file import OpenFile
from .tortoise_internals import SafeClient, SafeExecutor, SafeTransaction

T = TypeVar("T")
V = TypeVar("V")


class _Connection(sqlite3.Connection):
    """Connection that fails when its file was removed or replaced; SQLite would go on writing to the removed file.

    Works in the database's own thread, so that the loop never waits for the disk.
    """

    def __init__(self, path: Path, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.file = OpenFile(path)  # afterwards: a migration creates the file

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.file.check()
        cursor = super().execute(*args)
        self.file.check()
        return cursor

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self.file.check()
        return super().executemany(*args)

    def commit(self) -> None:
        self.file.check()
        super().commit()
        self.file.check()


class _Executor(SafeExecutor, SqliteExecutor): ...


class _Transaction(SafeTransaction, SqliteTransactionWrapper):  # type: ignore[misc]  # the connection is one for this task
    executor_class = _Executor

    async def begin(self) -> None:
        # IMMEDIATE: one that reads first and writes then would find the file locked by another process, at once.
        await finish(self._connection.execute_fetchall("BEGIN IMMEDIATE"))

    async def execute_script(self, query: str) -> None:
        # Python's executescript would commit the open transaction.
        for statement in _statements(query):
            await self.execute_query(statement)


class Client(SafeClient, SqliteClient):
    """One connection, opened when it is first needed and again after its file was replaced."""

    executor_class = _Executor
    _transaction_class = _Transaction

    def __init__(self, file_path: str, create: bool = False, **pragmas: Any) -> None:
        super().__init__(file_path, **pragmas)
        self._create = create
        self._file: OpenFile | None = None

    async def create_connection(self, with_db: bool) -> None:
        await finish(self._open())

    async def _open(self) -> None:
        connection = aiosqlite.connect(
            f"file:{quote(self.filename)}?mode={'rwc' if self._create else 'rw'}",
            uri=True,
            isolation_level=None,
            factory=self._opened_file,
        )
        try:
            await connection
            connection.row_factory = sqlite3.Row
            for pragma, value in self.pragmas.items():
                await connection.execute_fetchall(f"PRAGMA {pragma}={value}")
        except BaseException:
            await _close(connection)
            raise
        self._connection = connection
        await self._post_connect()

    def _opened_file(self, *args: Any, **kwargs: Any) -> _Connection:
        connection = _Connection(Path(self.filename), *args, **kwargs)
        self._file = connection.file
        return connection

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await finish(_close(connection))

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[aiosqlite.Connection]:
        """The connection, for this task alone."""
        async with self._lock:
            if self._connection is None:
                await self.create_connection(with_db=True)
            connection = cast("aiosqlite.Connection", self._connection)
            try:
                yield connection
            finally:
                if self._file is not None and self._file.gone:
                    await self.close()

    def acquire_connection(self) -> AbstractAsyncContextManager[aiosqlite.Connection]:  # type: ignore[override]
        return self._held()

    @translate_exceptions
    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        async with self.acquire_connection() as connection:
            await finish(_all_or_none(connection, query, values))


async def _close(connection: aiosqlite.Connection) -> None:
    """Close a connection, also one that could not be opened, and wait for its thread.

    aiosqlite does not always wait: its thread would then answer an event loop that may be closed by then.
    """
    try:
        await connection.close()
    finally:
        await asyncio.to_thread(connection._thread.join)


async def _all_or_none(connection: aiosqlite.Connection, query: str, values: list[list[Any]]) -> None:
    await connection.execute("BEGIN IMMEDIATE")
    try:
        await connection.executemany(query, values)
        await connection.commit()
    except BaseException:
        await connection.rollback()
        raise


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


async def in_its_thread(
    connection: aiosqlite.Connection, function: Callable[[sqlite3.Connection, V], T], value: V
) -> T:
    """Call `function` with sqlite3's connection in the thread that it belongs to: one hop for any number of statements."""
    run: Any = connection._execute  # untyped
    return cast("T", await run(function, connection._conn, value))


client_class = Client
