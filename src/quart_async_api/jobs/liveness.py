"""Locks that end with their process: a free lock shows at once, without a clock, that its worker is dead."""

import asyncio
import fcntl
import hashlib
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..db.failures import translated
from ..db.url import DatabaseUrl
from .workers import BEAT, Workers

if TYPE_CHECKING:
    import psycopg


CONNECT_SECONDS = 5
MISSED_BEATS = 2.5  # before a free lock counts, if a broken connection frees it too


class Liveness(Protocol):
    """The lock and the heartbeat of this worker, and checks of other workers. `name` is a worker's id.

    `beat_seconds` is the longest time between two beats; `cuts` grows when locks may have become free without a death.
    """

    beat_seconds: float
    cuts: int

    async def hold(self, name: str) -> None:
        """Show that `name` lives, until `release` or the end of the process."""

    async def beat(self, workers: Workers, now: str) -> bool:
        """Count up the beat, and take a lost lock again. Return False if `name` was declared dead.

        Raises DatabaseUnavailable.
        """

    async def is_dead(self, name: str, missed: float) -> bool:
        """Return whether the lock proves that `name` is dead, after so many `missed` beats."""

    async def forget(self, name: str) -> None:
        """Remove the lock of a worker that is no longer registered."""

    async def release(self) -> None: ...


class FileLocks:
    """A locked file for each worker, in a folder beside the SQLite database. Only the kernel frees it, when its process ends.

    A missing file proves nothing: it may have been removed, or its process uses another name for the database.
    """

    beat_seconds = math.inf
    cuts = 0

    def __init__(self, database: Path) -> None:
        self._database = database
        self._name = ""
        self._descriptor: int | None = None

    async def hold(self, name: str) -> None:
        await self.release()
        self._name = name
        await asyncio.to_thread(self._lock)

    async def beat(self, workers: Workers, now: str) -> bool:
        await asyncio.to_thread(self._lock)
        return await workers.beat(self._name, now)

    async def is_dead(self, name: str, missed: float) -> bool:
        return await asyncio.to_thread(self._is_free, name)

    async def forget(self, name: str) -> None:
        await asyncio.to_thread(self._remove, name)

    async def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # the file stays until `forget`: only a free lock proves a death
            self._descriptor = None

    def _file(self, name: str) -> Path:
        database = self._database.resolve()  # one folder for one database, even through links
        return database.with_name(database.name + ".workers") / name

    def _remove(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _lock(self) -> None:
        file, before = self._file(self._name), self._descriptor
        if before is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(file.stat(), os.fstat(before)):
                    return
        file.parent.mkdir(mode=0o700, exist_ok=True)
        # Locked before it is renamed: another worker that finds it unlocked would declare this process dead.
        unnamed = file.with_name(f"{file.name}.new")
        descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.rename(unnamed, file)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        if before is not None:
            os.close(before)

    def _is_free(self, name: str) -> bool:
        file = self._file(name)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(file.stat(), os.fstat(descriptor))  # false: its worker holds a new file
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            os.close(descriptor)


class AdvisoryLocks:
    """A session advisory lock for each worker, on a separate PostgreSQL connection, which also carries the heartbeat.

    The lock becomes free when the process dies, but also when the server restarts or the connection breaks. So a free lock
    counts only after the heartbeat has stopped.
    """

    beat_seconds = 1.0

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._name = ""
        self._connection: psycopg.AsyncConnection[tuple[bool]] | None = None
        self._holds = False
        self._is_released = False
        self._turn = asyncio.Lock()  # of reconnecting
        self.cuts = 0

    async def hold(self, name: str) -> None:
        async with self._turn:
            await self._close()
            self._name, self._is_released = name, False
        with translated():
            await self._session()

    async def beat(self, workers: Workers, now: str) -> bool:
        with translated():
            session = await self._session()
            beaten = await session.execute(BEAT.replace("?", "%s"), (now, self._name))
            return beaten.rowcount > 0

    async def is_dead(self, name: str, missed: float) -> bool:
        if missed < MISSED_BEATS:
            return False
        with translated():
            session = await self._session()
            if not await _took(session, name):
                return False
            await session.execute("SELECT pg_advisory_unlock(%s)", (_key(name),))
            return True

    async def forget(self, name: str) -> None: ...

    async def release(self) -> None:
        async with self._turn:  # else a loop that connects meanwhile leaves a connection that nobody closes
            self._is_released = True
            await self._close()

    async def _close(self) -> None:
        self._holds = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _session(self) -> "psycopg.AsyncConnection[tuple[bool]]":
        """Return the connection that holds our lock; a new one if it broke."""
        import psycopg

        async with self._turn:
            try:
                if self._connection is not None:
                    if not self._holds:
                        self._holds = await _took(self._connection, self._name)
                    else:
                        await self._connection.execute("")
                    return self._connection
            except psycopg.Error:
                await self._close()
                self.cuts += 1
            if self._is_released:
                raise psycopg.OperationalError("this worker has released its lock")
            session: psycopg.AsyncConnection[tuple[bool]]
            session = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            try:
                await session.execute(f"SET lock_timeout = {CONNECT_SECONDS * 1000}".encode())
                # Do not wait: our previous session may still hold it, until the server notices its end.
                self._holds = await _took(session, self._name)
            except BaseException:
                await session.close()
                raise
            self._connection = session
            return session


async def _took(session: "psycopg.AsyncConnection[tuple[bool]]", name: str) -> bool:
    cursor = await session.execute("SELECT pg_try_advisory_lock(%s)", (_key(name),))
    row = await cursor.fetchone()
    return row is not None and row[0]


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def liveness(url: DatabaseUrl) -> Liveness:
    """Return the kind of locks for this database."""
    if url.file is not None:
        return FileLocks(url.file)
    return AdvisoryLocks(url.conninfo(CONNECT_SECONDS))
