"""Reads of PostgreSQL, beside the connections that write: all that wait go to the server in one pipeline.

psycopg prepares the statements that come often. After an ALTER TABLE, a prepared statement may fail once; it is then sent
again as it is, and the connection begins anew to prepare.
"""

import asyncio
import contextvars
from collections.abc import Coroutine
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row, tuple_row
from tortoise.backends.base.client import BaseDBAsyncClient

from .reader import Read, Reader, closed

QUICK_SECONDS = 0.5  # for a pipeline, after which each of its statements is sent again, apart from the others
_PIPELINE = 200  # reads in one, so that the first does not wait long for the last


class PostgresqlReader(Reader):
    """Reads on connections of the pool of `client`. While reads keep coming, one connection serves them all."""

    def __init__(self, client: BaseDBAsyncClient) -> None:
        super().__init__()
        self._client = client
        self._waiting: list[Read] = []
        self._worker: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._hops = 0

    @property
    def hops(self) -> int:
        return self._hops

    async def close(self) -> None:
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _together(self, read: Read) -> None:
        self._waiting.append(read)
        if self._worker is None:
            self._worker = self._spawn(self._work())

    def _alone(self, read: Read) -> None:
        self._spawn(self._read(read))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In a clean context: the caller's has its request and perhaps a transaction.
        task = asyncio.create_task(work, name="reads", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self) -> None:
        """Read what waits until nothing does, or until another worker has taken over."""
        worker = asyncio.current_task()
        reads: list[Read] = []
        try:
            async with self._client.acquire_connection() as connection:
                while self._worker is worker:
                    waiting = [read for read in self._waiting if not read.rows.done()]  # without cancelled ones
                    reads, self._waiting = waiting[:_PIPELINE], waiting[_PIPELINE:]
                    if reads:
                        await self._pipeline(connection, reads)
                    else:
                        self._worker = None  # before the connection is given back: meanwhile, a read may come
        except Exception as error:
            if self._worker is worker:
                reads, self._waiting = [*reads, *self._waiting], []
            for read in reads:
                read.settle(error)
        except asyncio.CancelledError:  # the database is closed
            reads, self._waiting = [*reads, *self._waiting], []
            for read in reads:
                read.settle(closed())
        finally:
            if self._worker is worker:
                self._worker = None

    async def _pipeline(self, connection: psycopg.AsyncConnection[Any], reads: list[Read]) -> None:
        self._hops += 1
        cursors = [connection.cursor(row_factory=dict_row if read.named else tuple_row) for read in reads]
        late = asyncio.get_running_loop().call_later(QUICK_SECONDS, self._is_late, reads, cursors)
        try:
            async with connection.pipeline():
                for read, cursor in zip(reads, cursors, strict=True):
                    await cursor.execute(read.sql, read.values)
            for read, cursor in zip(reads, cursors, strict=True):
                read.settle(await cursor.fetchall())
        except Exception:  # of one of them, which the others must not fail with, or of the connection
            for read in reads:
                if not read.rows.done():
                    self._alone(read)
            # psycopg takes a statement for prepared that the server has skipped: without this, each pipeline with it fails.
            # A rollback makes both forget all names; psycopg overlooks a DEALLOCATE ALL that it has sent before.
            await connection.execute("BEGIN", prepare=False)
            await connection.rollback()
        finally:
            late.cancel()

    def _is_late(self, reads: list[Read], cursors: list[psycopg.AsyncCursor[Any]]) -> None:
        """Send each statement of a pipeline that takes too long again, on a connection of its own."""
        self._worker = self._spawn(self._work()) if self._waiting else None  # the one that is late takes no more
        slow = next((read for read, cursor in zip(reads, cursors, strict=True) if cursor.pgresult is None), None)
        ends = asyncio.get_running_loop().time() + QUICK_SECONDS
        for read in reads:
            if not read.rows.done():
                self._alone(read)
            if slow is not None and read is not slow:
                read.rows.add_done_callback(partial(self._compare, slow, ends))

    def _compare(self, slow: Read, ends: float, rows: asyncio.Future[list[Any]]) -> None:
        """Remember a read as slow if one of the same pipeline is quick: else the server may be slow, or stalled."""
        is_quick = not rows.cancelled() and rows.exception() is None and asyncio.get_running_loop().time() < ends
        if is_quick and not slow.rows.done():
            self.remember_slow(slow)

    async def _read(self, read: Read) -> None:
        self._hops += 1
        try:
            async with self._client.acquire_connection() as connection:
                cursor = connection.cursor(row_factory=dict_row if read.named else tuple_row)
                await cursor.execute(read.sql, read.values, prepare=False)
                read.settle(await cursor.fetchall())
        except Exception as error:
            read.settle(error)
        except asyncio.CancelledError:
            read.settle(closed())
