"""Databases of tests: each is a copy of one that has all migrations, and goes when its test has ended."""

import asyncio
import fcntl
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from ..db.url import DatabaseUrl, parse

# Brings the database of a URL, which may not be there yet, to its newest migration.
Migrate = Callable[[str], Awaitable[object]]


class Templates:
    """Migrated databases in `folder`, one for each `kind`. Processes that share the folder share them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: dict[str, DatabaseUrl] = {}  # by the names of templates that this process has made there

    @asynccontextmanager
    async def database(self, url: str) -> AsyncIterator[tuple[str, Callable[[str, Migrate], Awaitable[None]]]]:
        """Yield the URL of a new database, beside the one that `url` names, and a function that makes it.

        That takes the kind of its template, and what migrates one.
        """
        server = parse(url)
        if server.file is not None:
            folder = Path(await asyncio.to_thread(mkdtemp, prefix="qaa-"))
            try:
                file = folder / "service.db"
                yield f"sqlite://{file}", lambda kind, migrate: self._copy_file(kind, migrate, file)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder)
            return
        name = f"qaa_test_{secrets.token_hex(8)}"  # no number: one of a run that was killed may be left
        try:
            yield _beside(url, name), lambda kind, migrate: self._copy_database(kind, migrate, url, name)
        finally:
            await asyncio.to_thread(_drop, server, name)

    async def file(self, kind: str, migrate: Migrate) -> Path:
        """Return the SQLite template of this kind."""
        template = self.folder / f"{_digest(kind)}.db"
        if not await asyncio.to_thread(template.exists):
            async with self._alone():
                if not await asyncio.to_thread(template.exists):
                    unfinished = template.with_suffix(".unfinished")
                    await migrate(f"sqlite://{unfinished}")
                    await asyncio.to_thread(unfinished.rename, template)
        return template

    def close(self) -> None:
        """Drop the templates that this process has made on servers. Another process that needs one makes it anew."""
        while self._servers:
            name, server = self._servers.popitem()
            with self._locked():
                self._mark_of(name).unlink(missing_ok=True)
                _drop(server, name)

    async def _copy_file(self, kind: str, migrate: Migrate, file: Path) -> None:
        await asyncio.to_thread(shutil.copyfile, await self.file(kind, migrate), file)

    async def _copy_database(self, kind: str, migrate: Migrate, url: str, name: str) -> None:
        server, template = parse(url), f"qaa_template_{_digest(f'{self.folder} {kind}')}"
        async with self._alone():  # PostgreSQL copies no database that another session uses
            # One on the server alone may be of a run in this folder that was killed, with the migrations of that time.
            if not await asyncio.to_thread(self._mark_of(template).exists):
                self._servers[template] = server
                await asyncio.to_thread(_drop, server, template)
                await asyncio.to_thread(_run, server, f'CREATE DATABASE "{template}"')
                await migrate(_beside(url, template))
                await asyncio.to_thread(self._mark_of(template).touch)
            await asyncio.to_thread(_copy, server, template, name)

    def _mark_of(self, template: str) -> Path:
        """Return the file that is there once the template on a server is finished."""
        return self.folder / template

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        lock = await asyncio.to_thread(self._locked)
        try:
            yield
        finally:
            lock.close()

    def _locked(self) -> IO[str]:
        lock = (self.folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


@asynccontextmanager
async def temporary_templates() -> AsyncIterator[Templates]:
    """Templates of their own, without pytest."""
    folder = Path(await asyncio.to_thread(mkdtemp, prefix="qaa-"))
    templates = Templates(folder)
    try:
        yield templates
    finally:
        await asyncio.to_thread(templates.close)
        await asyncio.to_thread(shutil.rmtree, folder)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _beside(url: str, name: str) -> str:
    address, mark, parameters = url.partition("?")
    return f"{address.rpartition('/')[0]}/{name}{mark}{parameters}"


def _run(server: DatabaseUrl, statement: str) -> None:
    import psycopg

    with psycopg.connect(server.conninfo(10), autocommit=True) as connection:
        connection.execute(statement.encode())


def _drop(server: DatabaseUrl, name: str) -> None:
    _run(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _copy(server: DatabaseUrl, template: str, name: str) -> None:
    import psycopg

    with psycopg.connect(server.conninfo(10), autocommit=True) as connection:
        # The files as they are, as before 15: a quarter of the time that the same takes through the log.
        strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}'.encode())
