"""What a database is asked: the statements that SQLite runs, and its instructions for them."""

from collections.abc import Callable
from sqlite3 import Connection
from typing import TYPE_CHECKING, cast

from quart_async_api.db.connection import Database
from quart_async_api.db.sqlite_reader import SqliteReader, _Lane

if TYPE_CHECKING:
    import aiosqlite


async def traced(database: Database, told: Callable[[str], object]) -> None:
    """Call `told` with each statement, with its values in it."""
    async with database.client.acquire_connection() as connection:
        await cast("aiosqlite.Connection", connection).set_trace_callback(told)
    await _reading(database, lambda connection: connection.set_trace_callback(told))


async def counted(database: Database, step: Callable[[], int]) -> None:
    """Call `step` for each instruction of SQLite."""
    async with database.client.acquire_connection() as connection:
        await cast("aiosqlite.Connection", connection).set_progress_handler(step, 1)
    await _reading(database, lambda connection: connection.set_progress_handler(step, 1))


async def _reading(database: Database, prepare: Callable[[Connection], None]) -> None:
    """Read on new connections, which `prepare` has seen."""

    def prepared(lane: _Lane) -> None:
        connect = lane._connect

        def connected() -> Connection:
            connection = connect()
            prepare(connection)
            return connection

        lane._connect = connected  # type: ignore[method-assign]

    assert database._reader is not None
    await database._reader.close()
    database._reader = reader = database._new_reader()
    assert isinstance(reader, SqliteReader)
    prepared(reader._quick)
    prepared(reader._tried)
    prepared(reader._slow)
