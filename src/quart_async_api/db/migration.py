"""Updates and checks the schema of a database. Each migration is one transaction; one process at a time."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.exceptions import BaseORMException
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_generator.state import State as ModelState
from tortoise.transactions import in_transaction

from ..errors import DatabaseBehind, DatabaseUnusable, told
from ..moments import utc_now
from .connection import MIGRATE, Database
from .failures import reason, translated
from .history import on_disk
from .packages import OF_THE_SERVICE, Packages
from .tortoise_internals import SafeContext
from .url import DatabaseUrl, parse

_ADVISORY_LOCK = 0x71756172745F6462  # "quart_db"
_LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """`pending`: migrations missing in the database; `unknown`: migrations missing in the code. In order, as they are shown."""

    pending: tuple[str, ...]
    unknown: tuple[str, ...]


class _Recorder(MigrationRecorder):
    """Tortoise's, which takes any error for an empty database and knows no psycopg. It leaves out those of other packages."""

    def __init__(self, connection: BaseDBAsyncClient | None, packages: Packages) -> None:
        super().__init__(connection)
        self._packages = packages

    async def applied_migrations(self) -> list[MigrationKey]:
        return await _applied(self.connection, self._packages)

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

    def __init__(self, client: BaseDBAsyncClient, target: DatabaseUrl, packages: Packages) -> None:
        """Read the migrations here, where it may block, instead of when they are run."""
        super().__init__(client, target.config(packages)["apps"])
        self.recorder = self.loader.recorder = _Recorder(client, packages)
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


async def upgrade(url: str, packages: Packages = (OF_THE_SERVICE,)) -> list[str]:
    """Apply the pending migrations of these packages, and create SQLite's file if needed. Return their names in order.

    Concurrent processes wait for each other. A failed migration changes nothing; earlier ones stay applied.
    Raises DatabaseUnusable, DatabaseBehind if the database is newer than the program, SettingsError.
    """
    target = await asyncio.to_thread(parse, url)
    known = await asyncio.to_thread(on_disk, tuple(packages))
    try:
        async with _alone(target.file), _connected(target, packages) as client:
            executor = await asyncio.to_thread(_Executor, client, target, packages)
            applied: list[str] = []
            while (name := await _apply_next(client, executor, known, packages)) is not None:
                applied.append(name)
            return applied
    except Exception as error:
        if (why := reason(error)) is not None:
            raise DatabaseUnusable(f"cannot use {target.printable}: the database {why}") from error
        raise


async def state(database: Database) -> State:
    """Return the state of the schema of an open database. Raises DatabaseUnavailable."""
    with database.bind(), translated():
        applied = await _applied(database.client, database.packages)
    known = await asyncio.to_thread(on_disk, tuple(database.packages))
    pending, unknown = _compare(known, applied)
    return State(_shown(pending, database.packages), _shown(unknown, database.packages))


async def check(database: Database) -> None:
    """Raise DatabaseBehind, with the remedy, if this version needs another schema."""
    found = await state(database)
    _refuse_newer(found.unknown)
    if found.pending:
        raise DatabaseBehind(f"the database lacks {', '.join(found.pending)}: run `{MIGRATE}`")


def _refuse_newer(unknown: Collection[str]) -> None:
    if unknown:
        raise DatabaseBehind(f"the database is newer than this program, by {', '.join(unknown)}: upgrade the program")


def _compare(
    known: Sequence[MigrationKey], applied: Sequence[MigrationKey]
) -> tuple[list[MigrationKey], list[MigrationKey]]:
    """Return the migrations missing in the database, and those missing in the code."""
    return [key for key in known if key not in applied], [key for key in applied if key not in known]


def _shown(keys: Iterable[MigrationKey], packages: Packages) -> tuple[str, ...]:
    by_label = {package.label: package for package in packages}
    return tuple(by_label[key.app_label].shown(key.name) for key in keys)


async def _applied(client: BaseDBAsyncClient, packages: Packages) -> list[MigrationKey]:
    """Return the applied migrations of these packages, in order."""
    exists = (
        "SELECT 1 FROM sqlite_master WHERE name = 'tortoise_migrations'"
        if client.capabilities.dialect == "sqlite"
        else "SELECT 1 WHERE to_regclass('tortoise_migrations') IS NOT NULL"
    )
    if not (await client.execute_query(exists))[1]:
        return []
    labels = ", ".join(f"'{package.label}'" for package in packages)
    _, rows = await client.execute_query(
        f"SELECT app, name FROM tortoise_migrations WHERE app IN ({labels}) ORDER BY id"  # noqa: S608
    )
    return [MigrationKey(row["app"], row["name"]) for row in rows]


async def _apply_next(
    client: BaseDBAsyncClient, executor: _Executor, known: Sequence[MigrationKey], packages: Packages
) -> str | None:
    """Apply and record the first pending migration in one transaction. Return its name, or None if none is pending."""
    async with in_transaction(client.connection_name) as transaction:
        if client.capabilities.dialect == "postgres":
            await transaction.execute_query("SET LOCAL lock_timeout = 0")
            await transaction.execute_query("SET LOCAL idle_in_transaction_session_timeout = 0")
            await transaction.execute_query(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        pending, unknown = _compare(known, await _applied(transaction, packages))
        _refuse_newer(_shown(unknown, packages))
        if not pending:
            return None
        key = pending[0]
        [migrations] = [package.migrations for package in packages if package.label == key.app_label]
        [name] = _shown([key], packages)
        executor.work_on(transaction)
        try:
            await executor.migrate([MigrationTarget(key.app_label, key.name)], direction="forward")
        except Exception as error:
            if reason(error) is not None:
                raise
            said = " ".join(str(error).split()) if isinstance(error, BaseORMException) else told(error, migrations)
            raise DatabaseUnusable(f"migration {name} failed, and changed nothing: {said}") from error
        if client.capabilities.dialect == "sqlite":
            _, orphans = await transaction.execute_query("PRAGMA foreign_key_check")
            if orphans:
                raise DatabaseUnusable(f"migration {name} would leave rows of {orphans[0]['table']} without a parent")
        return name


@asynccontextmanager
async def _connected(target: DatabaseUrl, packages: Packages) -> AsyncIterator[BaseDBAsyncClient]:
    config = target.config(packages)
    if target.file is not None:
        with suppress(OSError):  # SQLite has a better message
            await asyncio.to_thread(target.file.touch, 0o600)  # it holds webhook secrets: only its owner may read it
        # With foreign keys on, remaking a parent table would delete the rows of its children.
        config["connections"][target.dialect]["credentials"] |= {"foreign_keys": "OFF", "create": True}
    async with SafeContext() as context:  # closes its connections
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
