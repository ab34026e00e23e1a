"""Locks that die with their process: who can take another's knows that it is dead, at once and whatever the clock says."""

import asyncio
import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..db.failures import translated
from ..db.url import DatabaseUrl

if TYPE_CHECKING:
    import psycopg


CONNECT_SECONDS = 5


class Liveness(Protocol):
    """One's own sign of life, and a look at that of others. `name` is a worker's id."""

    async def hold(self, name: str) -> None:
        """Show that `name` lives, until `release` or the end of the process."""

    async def is_dead(self, name: str) -> bool:
        """Whether nobody holds `name`."""

    async def keep(self) -> None:
        """Hold again what was lost without our doing. Raises DatabaseUnavailable."""

    async def release(self) -> None: ...


class FileLocks:
    """A locked file for each worker, in a folder beside the SQLite database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[Path, int] | None = None

    async def hold(self, name: str) -> None:
        await self.release()
        self._held = await asyncio.to_thread(self._lock, name)

    async def is_dead(self, name: str) -> bool:
        return await asyncio.to_thread(self._is_free, self._folder / name)

    async def keep(self) -> None:
        pass  # the kernel keeps it

    async def release(self) -> None:
        if self._held is not None:
            (file, descriptor), self._held = self._held, None
            await asyncio.to_thread(self._unlock, file, descriptor)

    def _lock(self, name: str) -> tuple[Path, int]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = self._folder / name
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return file, descriptor

    def _unlock(self, file: Path, descriptor: int) -> None:
        file.unlink(missing_ok=True)
        os.close(descriptor)

    def _is_free(self, file: Path) -> bool:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            file.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)


class AdvisoryLocks:
    """A session advisory lock for each worker, on a PostgreSQL connection of its own."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._name = ""
        self._connection: psycopg.AsyncConnection[tuple[bool]] | None = None
        self._turn = asyncio.Lock()  # of making the connection anew

    async def hold(self, name: str) -> None:
        await self.release()
        self._name = name
        await self.keep()

    async def is_dead(self, name: str) -> bool:
        with translated():
            session = await self._session()
            if not await _took(session, name):
                return False
            await session.execute("SELECT pg_advisory_unlock(%s)", (_key(name),))
            return True

    async def keep(self) -> None:
        with translated():
            await self._session()

    async def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _session(self) -> "psycopg.AsyncConnection[tuple[bool]]":
        """The connection that holds our lock; a new one where it broke."""
        import psycopg

        async with self._turn:
            try:
                if self._connection is not None:
                    await self._connection.execute("")
                    return self._connection
            except psycopg.Error:
                await self.release()
            session: psycopg.AsyncConnection[tuple[bool]]
            session = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            # Not waited for: what holds it may be our own session before, whose end the server has not noticed yet.
            await _took(session, self._name)
            self._connection = session
            return session


async def _took(session: "psycopg.AsyncConnection[tuple[bool]]", name: str) -> bool:
    cursor = await session.execute("SELECT pg_try_advisory_lock(%s)", (_key(name),))
    row = await cursor.fetchone()
    return row is not None and row[0]


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def liveness(url: DatabaseUrl) -> Liveness:
    """The locks that belong to this database."""
    if url.file is not None:
        return FileLocks(url.file.with_name(url.file.name + ".workers"))
    from psycopg.conninfo import make_conninfo

    held = url.credentials
    server = {name: held[name] for name in ("host", "port", "user", "password")} | held["server_settings"]
    wait = CONNECT_SECONDS
    return AdvisoryLocks(make_conninfo(dbname=held["database"], connect_timeout=wait, **server))
