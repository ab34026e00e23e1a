"""Tortoise's psycopg engine, made to survive cancellation, and to say at once why it cannot connect.

The module's name matters: migrations pick their schema editor by the `psycopg` in it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import psycopg
import psycopg_pool
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from tortoise.backends.base_postgres.client import translate_exceptions
from tortoise.backends.psycopg.client import AsyncConnectionPool, PsycopgClient, TransactionWrapper
from tortoise.backends.psycopg.executor import PsycopgExecutor
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError

from .cancellation import finish
from .tortoise_internals import SafeClient, SafeExecutor, SafeTransaction

# Locked, full, shut down, cut off, or a standby: tried again later, the same statement may do.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


class _Pool(AsyncConnectionPool):
    """A pool that gets every connection back."""

    async def acquire(self, *args: Any, **kwargs: Any) -> psycopg.AsyncConnection:
        getting = asyncio.ensure_future(self._live())
        try:
            await asyncio.wait((getting,))
        except asyncio.CancelledError:
            getting.cancel()
            await finish(self._give_back(getting))
            raise
        return await getting

    async def _live(self) -> psycopg.AsyncConnection:
        """Return a working connection. The pool's own check pauses for seconds after each broken one."""
        failed = self.get_stats().get("connections_errors", 0)
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    connection = await self.getconn()
                    try:
                        await connection.execute("")
                        return connection
                    except BaseException as error:
                        await finish(self._discard(connection))
                        if not isinstance(error, psycopg.Error):
                            raise
        except TimeoutError as error:
            has_failed = self.get_stats().get("connections_errors", 0) > failed
            why = "the server accepts no new one" if has_failed else f"all {self.max_size} were in use"
            raise psycopg_pool.PoolTimeout(f"no connection within {self.timeout:g} s: {why}") from error

    async def _discard(self, connection: psycopg.AsyncConnection) -> None:
        await connection.close()
        await self.putconn(connection)

    async def _give_back(self, getting: asyncio.Future[psycopg.AsyncConnection]) -> None:
        await asyncio.wait((getting,))
        if not getting.cancelled() and getting.exception() is None:
            await self.putconn(getting.result())

    async def release(self, connection: psycopg.AsyncConnection) -> None:
        # Rolls back what is open in it, and replaces one that is broken or still busy.
        await finish(self.putconn(connection))


def pool_of(client: object) -> dict[str, int]:
    """Return the connections of a client's pool, `used` and `free`, and the callers `waiting` for one."""
    pool = getattr(client, "_pool", None)
    if pool is None:
        return {}
    found = pool.get_stats()
    free = found.get("pool_available", 0)
    return {"used": found.get("pool_size", 0) - free, "free": free, "waiting": found.get("requests_waiting", 0)}


class _Translating:
    """Translates errors that Tortoise does not: a lost server, a timeout of a lock or the pool, most invalid SQL."""

    async def _translate_exceptions(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._translate_exceptions(func, *args, **kwargs)  # type: ignore[misc]
        except UNAVAILABLE as error:
            raise DBConnectionError(error) from error
        except psycopg.Error as error:
            raise OperationalError(error) from error


class _Executor(SafeExecutor, PsycopgExecutor): ...


class _Transaction(_Translating, SafeTransaction, TransactionWrapper):  # type: ignore[misc]
    executor_class = _Executor

    @translate_exceptions
    async def begin(self) -> None:
        await super().begin()

    @translate_exceptions
    async def commit(self) -> None:
        if self._connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            # The server would roll back on COMMIT, and psycopg would raise nothing.
            raise TransactionManagementError("a statement of this transaction failed: nothing can be committed")
        await super().commit()

    @translate_exceptions
    async def rollback(self) -> None:
        await super().rollback()

    async def abandon(self) -> None:
        """Roll back. If that fails, close the connection; the pool replaces it."""
        await finish(self._rollback_or_close())

    async def _rollback_or_close(self) -> None:
        try:
            await super().rollback()
        except Exception:
            await self._connection.close()


class Client(_Translating, SafeClient, PsycopgClient):
    executor_class = _Executor
    _transaction_class = _Transaction

    @translate_exceptions
    async def create_connection(self, with_db: bool) -> None:
        wait: float = self.extra["timeout"]
        conninfo = make_conninfo(
            host=self.host,
            port=self.port,
            user=self.user,
            password=cast("str | None", self.password),
            dbname=self.database,
            application_name=self.application_name,
            connect_timeout=max(2, round(wait)),  # libpq takes whole seconds, from 2
            tcp_user_timeout=round(wait * 1000),
            **self.server_settings,
        )

        async def _configure(connection: psycopg.AsyncConnection) -> None:
            await connection.execute(f"SET lock_timeout = {round(wait * 1000)}")
            # A process that stops in the middle of a transaction loses its locks before others give up waiting for them.
            await connection.execute(f"SET idle_in_transaction_session_timeout = {max(1, round(wait * 500))}")

        try:
            # The pool would try again until its timeout, and not report the reason.
            async with asyncio.timeout(wait), await psycopg.AsyncConnection.connect(conninfo):
                pass
        except TimeoutError as error:
            raise DBConnectionError(f"no answer within {wait:g} s") from error
        pool = _Pool(
            conninfo,
            open=False,
            min_size=self.pool_minsize,
            max_size=self.pool_maxsize,
            kwargs={"autocommit": True, "row_factory": dict_row},
            configure=_configure,
            timeout=wait,
            # Soon, so that the next request tries anew, instead of after a pause that has grown.
            reconnect_timeout=wait / 2,
        )
        await pool.open()
        self._pool = pool
        await self._post_connect()

    @translate_exceptions
    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        async with self.acquire_connection() as connection:
            await finish(_all_or_none(connection, query, values))

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await finish(pool.close())


async def _all_or_none(connection: psycopg.AsyncConnection, query: str, values: list[list[Any]]) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(query, values)


client_class = Client
