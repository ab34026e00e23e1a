"""Updates and checks the schema of a database. Each migration is one transaction; one process at a time."""

import asyncio
import fcntl
import functools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.context import TortoiseContext
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_generator.state import State as ModelState
from tortoise.transactions import in_transaction

from ..errors import DatabaseBehind, DatabaseUnusable
from ..moments import utc_now
from .connection import MIGRATE, Database
from .failures import reason, translated
from .url import APP, MIGRATIONS, DatabaseUrl, parse

_ADVISORY_LOCK = 0x71756172745F6462  # "quart_db"
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """`pending`: migrations missing in the database; `unknown`: migrations missing in the code. In order."""

    pending: tuple[str, ...]
    unknown: tuple[str, ...]


class _Recorder(MigrationRecorder):
    """Tortoise's, which takes any error for an empty database and knows no psycopg."""

    async def applied_migrations(self) -> list[MigrationKey]:
        return [MigrationKey(app_label=APP, name=name) for name in await _applied(self.connection)]

    async def record_applied(self, app: str, name: str) -> None:
        mark = "?" if self.connection.capabilities.dialect == "sqlite" else "%s"
        await self.connection.execute_insert(
            f"INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ({mark}, {mark}, {mark})",  # noqa: S608
            [app, name, utc_now()],
        )


class _Executor(MigrationExecutor):
    """Tortoise's, for one migration after the other.

    It keeps the state of the models in between: to replay the earlier migrations before each one takes longer than all else.
    """

    def __init__(self, client: BaseDBAsyncClient, config: dict[str, Any]) -> None:
        """Read the migrations here, where it may block, instead of when they are run."""
        super().__init__(client, config["apps"])
        self.recorder = self.loader.recorder = _Recorder(client)
        self.loader.load_disk()
        self.loader.load_disk = lambda: None  # type: ignore[method-assign]
        self._applied: set[MigrationKey] | None = None
        self._state: ModelState | None = None

    def work_on(self, client: BaseDBAsyncClient) -> None:
        self.connection = self.recorder.connection = client

    async def _project_state(self, applied: set[MigrationKey], *, upto: MigrationKey | None = None) -> ModelState:
        if upto is not None:
            return await super()._project_state(applied, upto=upto)
        # `migrate` adds what it applies to both, so they still agree at the next migration, unless another process was quicker.
        if self._state is None or self._applied != applied:
            self._state = await super()._project_state(applied)
        self._applied = applied
        return self._state


async def upgrade(url: str, migrations: str = MIGRATIONS) -> list[str]:
    """Apply the pending migrations, and create SQLite's file if needed. Return their names in order.

    Concurrent processes wait for each other. A failed migration changes nothing; earlier ones stay applied.
    Raises DatabaseUnusable, DatabaseBehind if the database is newer than the program, SettingsError.
    """
    target = await asyncio.to_thread(parse, url)
    known = await asyncio.to_thread(_on_disk, migrations)
    try:
        async with _alone(target.file), _connected(target, migrations) as client:
            executor = await asyncio.to_thread(_Executor, client, target.config(migrations))
            applied: list[str] = []
            while (name := await _apply_next(client, executor, known)) is not None:
                applied.append(name)
            return applied
    except Exception as error:
        if (why := reason(error)) is not None:
            raise DatabaseUnusable(f"cannot use {target.printable}: the database {why}") from error
        raise


async def state(database: Database) -> State:
    """Return the state of the schema of an open database. Raises DatabaseUnavailable."""
    with database.bind(), translated():
        applied = await _applied(database.client)
    return _compare(await asyncio.to_thread(_on_disk, MIGRATIONS), applied)


async def check(database: Database) -> None:
    """Raise DatabaseBehind, with the remedy, if this version needs another schema."""
    _refuse_newer(found := await state(database))
    if found.pending:
        raise DatabaseBehind(f"the database lacks {', '.join(found.pending)}: run `{MIGRATE}`")


def _refuse_newer(found: State) -> None:
    if found.unknown:
        raise DatabaseBehind(
            f"the database is newer than this program, by {', '.join(found.unknown)}: upgrade the program"
        )


def _compare(known: tuple[str, ...], applied: list[str]) -> State:
    return State(
        tuple(name for name in known if name not in applied), tuple(name for name in applied if name not in known)
    )


@functools.cache
def _on_disk(migrations: str) -> tuple[str, ...]:
    """Return the names of all migrations. They begin with their number."""
    loader = MigrationLoader({APP: {"migrations": migrations}}, _Recorder(None))
    loader.load_disk()
    return tuple(sorted(key.name for key in loader.disk_migrations))


async def _applied(client: BaseDBAsyncClient) -> list[str]:
    """Return the names of the applied migrations, in order."""
    exists = (
        "SELECT 1 FROM sqlite_master WHERE name = 'tortoise_migrations'"
        if client.capabilities.dialect == "sqlite"
        else "SELECT 1 WHERE to_regclass('tortoise_migrations') IS NOT NULL"
    )
    if not (await client.execute_query(exists))[1]:
        return []
    _, rows = await client.execute_query(f"SELECT name FROM tortoise_migrations WHERE app = '{APP}' ORDER BY id")  # noqa: S608
    return [row["name"] for row in rows]


async def _apply_next(client: BaseDBAsyncClient, executor: _Executor, known: tuple[str, ...]) -> str | None:
    """Apply and record the first pending migration in one transaction. Return its name, or None if none is pending."""
    async with in_transaction(client.connection_name) as transaction:
        if client.capabilities.dialect == "postgres":
            await transaction.execute_query("SET LOCAL lock_timeout = 0")
            await transaction.execute_query("SET LOCAL idle_in_transaction_session_timeout = 0")
            await transaction.execute_query(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        _refuse_newer(found := _compare(known, await _applied(transaction)))
        if not found.pending:
            return None
        name = found.pending[0]
        executor.work_on(transaction)
        await executor.migrate([MigrationTarget(APP, name)], direction="forward")
        if client.capabilities.dialect == "sqlite":
            _, orphans = await transaction.execute_query("PRAGMA foreign_key_check")
            if orphans:
                raise DatabaseUnusable(f"migration {name} would leave rows of {orphans[0]['table']} without a parent")
        return name


@asynccontextmanager
async def _connected(target: DatabaseUrl, migrations: str) -> AsyncIterator[BaseDBAsyncClient]:
    config = target.config(migrations)
    if target.file is not None:
        with suppress(OSError):  # SQLite has a better message
            await asyncio.to_thread(target.file.touch, 0o600)  # it holds webhook secrets: only its owner may read it
        # With foreign keys on, remaking a parent table would delete the rows of its children.
        config["connections"][target.dialect]["credentials"] |= {"foreign_keys": "OFF", "create": True}
    async with TortoiseContext() as context:  # closes its connections
        await context.init(config=config)
        yield context.db()


@asynccontextmanager
async def _alone(file: Path | None) -> AsyncIterator[None]:
    """Lock the folder of a new SQLite file against other processes. The lock leaves no file."""
    if file is None:
        yield
        return
    try:
        descriptor = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        raise DatabaseUnusable(f"cannot use sqlite://{file}: {error.strerror}: {file.parent}") from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
