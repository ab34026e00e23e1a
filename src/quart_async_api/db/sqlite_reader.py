"""Reads of a SQLite file, beside the connection that writes: short SQL straight to tuples, on read-only connections.

In WAL mode, a statement sees every commit that ended before it began, of this process and of others. No transaction is
ever open here: a read holds its snapshot only while it runs.
"""

import asyncio
import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from ..errors import DatabaseUnavailable
from .failures import as_unavailable
from .open_file import OpenFile
from .reader import Read, Reader, closed
from .url import LONGEST_LOG

QUICK_SECONDS = 0.02  # a statement that takes longer moves to the thread of the slow ones
_INSTRUCTIONS = 10_000  # of SQLite, between two looks at the clock: about 0.3 ms
_ROOM_SECONDS = 2.0  # that a slow statement waits at most
_VISIT = 500  # reads in one hop to the thread, so that the first does not wait long for the last


class SqliteReader(Reader):
    """Reads of `file`. `busy_seconds`: how long to wait for a lock, which in WAL mode only a recovery holds.

    A thread reads all that is asked at a time in one hop. Statements that take longer than QUICK_SECONDS have another
    thread. A third one tries those whose text was slow before: with other values they may be quick. The threads start when they
    are needed.
    """

    def __init__(self, file: Path, busy_seconds: float) -> None:
        super().__init__()
        self._quick = _Lane("reads", file, busy_seconds, QUICK_SECONDS, self._set_apart)
        self._tried = _Lane("tried reads", file, busy_seconds, QUICK_SECONDS, self._set_apart)
        self._slow = _Lane("slow reads", file, busy_seconds, math.inf)

    @property
    def hops(self) -> int:
        return self._quick.hops + self._tried.hops + self._slow.hops

    async def close(self) -> None:
        await asyncio.gather(self._quick.close(), self._tried.close(), self._slow.close())

    def _together(self, read: Read) -> None:
        self._quick.add(read)

    def _alone(self, read: Read) -> None:
        self._tried.add(read)

    def _set_apart(self, read: Read) -> None:
        self.remember_slow(read)
        self._slow.add(read)


class _Lane:
    """A read-only connection in a thread of its own. Reads that are added while it works share the next hop."""

    def __init__(
        self, name: str, file: Path, busy_seconds: float, limit: float, is_slow: Callable[[Read], None] | None = None
    ) -> None:
        """`limit`: seconds for a statement, after which `is_slow` gets it."""
        self._name = name
        self._path = file
        self._busy_seconds = busy_seconds
        self._limit = limit
        self._is_slow = is_slow
        self._waiting: list[Read] = []
        self._at_work = False
        self._closed = False
        self._visits: SimpleQueue[list[Read] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self.hops = 0
        # Of the thread:
        self._connection: sqlite3.Connection | None = None
        self._file: OpenFile
        self._has_failed = False
        self._current: Read | None = None
        self._until = 0.0

    def add(self, read: Read) -> None:
        self._waiting.append(read)
        if not self._at_work:
            self._at_work = True
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._visit)  # and not now: what is asked in the same round of the loop joins

    async def close(self) -> None:
        self._closed = True
        if self._thread is not None:
            self._visits.put(None)
            await asyncio.to_thread(self._thread.join)

    def _visit(self) -> None:
        """Send the thread to read what waits."""
        waiting = [read for read in self._waiting if not read.rows.done()]  # without cancelled ones
        reads, self._waiting = waiting[:_VISIT], waiting[_VISIT:]
        self._at_work = bool(reads)
        if not reads:
            return
        if self._closed:
            self._settle(reads, [closed() for _ in reads])
            return
        if self._thread is None:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the process may have no more threads
                self._settle(reads, [DatabaseUnavailable(f"the database cannot be read: {error}") for _ in reads])
                return
            self._thread = thread
        self.hops += 1
        self._visits.put(reads)

    def _settle(self, reads: list[Read], outcomes: Sequence[list[Any] | Exception | None]) -> None:
        self._visit()  # first, so that the thread reads on meanwhile
        for read, outcome in zip(reads, outcomes, strict=True):
            if outcome is not None:
                read.settle(outcome)
            elif self._closed or self._is_slow is None:
                read.settle(closed())
            elif not read.rows.done():
                self._is_slow(read)

    # From here on, in the thread.

    def _work(self) -> None:
        while (reads := self._visits.get()) is not None:
            outcomes = self._read(reads)
            try:
                self._loop.call_soon_threadsafe(self._settle, reads, outcomes)
            except RuntimeError:  # the loop was closed, by a process that ends without a stop
                break
            del reads, outcomes  # else the thread would keep them until the next visit
            self._current = None
        self._disconnect()

    def _read(self, reads: list[Read]) -> Sequence[list[Any] | Exception | None]:
        try:
            connection = self._connection or self._connect()
            self._file.check()
            outcomes = [self._rows(connection, read) for read in reads]
            self._file.check()  # what was read from a removed file does not count
            if self._has_failed:
                self._disconnect()  # it keeps what it has read of the disk
        except Exception as error:
            self._disconnect()
            return [error] * len(reads)
        return outcomes

    def _rows(self, connection: sqlite3.Connection, read: Read) -> list[Any] | Exception | None:
        """Return the rows, an error of this read alone, or None for a statement that was interrupted."""
        if self._limit == math.inf:
            self._leave_room()
        self._current, self._until = read, monotonic() + self._limit
        try:
            # An error, such as invalid UTF-8, leaves the cursor open. An open cursor holds its snapshot: close it.
            with closing(connection.execute(read.sql, read.values)) as cursor:
                if read.named:
                    names = [column[0] for column in cursor.description]
                    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                return cursor.fetchall()
        except Exception as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                return None
            self._has_failed |= as_unavailable(error) is not None
            return error

    def _leave_room(self) -> None:
        """Wait until the write-ahead log is short: one slow read after another would keep writers from emptying it."""
        log = self._path.with_name(f"{self._path.name}-wal")
        ends = monotonic() + _ROOM_SECONDS
        with suppress(OSError):
            while log.stat().st_size > LONGEST_LOG and monotonic() < ends and not self._closed:
                sleep(0.01)

    def _connect(self) -> sqlite3.Connection:
        self._file = OpenFile(self._path)  # first: a file that is replaced meanwhile is noticed
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=self._busy_seconds,
        )
        connection.set_progress_handler(self._gives_up, _INSTRUCTIONS)
        self._connection = connection
        return connection

    def _gives_up(self) -> bool:
        """Return whether SQLite is to interrupt the statement that it runs."""
        return monotonic() > self._until or self._closed or (self._current is not None and self._current.rows.done())

    def _disconnect(self) -> None:
        connection, self._connection, self._has_failed = self._connection, None, False
        if connection is not None:
            connection.close()
