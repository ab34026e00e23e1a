"""Runs a unit in a transaction that an app's own code has open, as the last that this transaction does.

So the locks of the service's rows come after those of the app's, in the order of every batch, and are held for a moment.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tortoise.backends.base.client import TransactionalDBClient
from tortoise.exceptions import DBConnectionError

from ..errors import DatabaseUnavailable
from .cancellation import finish
from .connection import Database
from .group_commit import ATTEMPTS, Crossed, Unit

if TYPE_CHECKING:
    import aiosqlite
    import psycopg

T = TypeVar("T")


async def run_within(database: Database, make: Callable[[], Unit[T]]) -> T:
    """Run the unit that `make` returns in the open transaction of this task. It is written with the transaction, or not at all.

    Raises DatabaseUnavailable, or the exception of the unit.
    """
    for _ in range(ATTEMPTS):
        try:
            async with database.transaction() as client:  # a savepoint: another transaction may be in the way
                return cast("T", await _run(client, make))
        except Crossed as error:
            crossed = error
    raise DatabaseUnavailable(str(crossed)) from crossed


async def _run(client: TransactionalDBClient, make: Callable[[], Unit[Any]]) -> Any:
    async with client.acquire_connection() as connection:
        if client.capabilities.dialect == "sqlite":
            from . import sqlite_batch
            from .safe_sqlite import in_its_thread

            sqlite = cast("aiosqlite.Connection", connection)
            [outcome] = await finish(in_its_thread(sqlite, sqlite_batch.run_within, [make]))
            return outcome
        from . import lockstep
        from .safe_psycopg import UNAVAILABLE

        try:
            postgresql = cast("psycopg.AsyncConnection[dict[str, Any]]", connection)
            [outcome] = await finish(lockstep.run(postgresql, [make], within=True))
        except lockstep.CROSSED as error:
            raise Crossed("other transactions were in the way") from error
        except UNAVAILABLE as error:
            raise DBConnectionError(error) from error
        return outcome
