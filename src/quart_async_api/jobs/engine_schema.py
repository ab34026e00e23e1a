"""The tables of the distributed engine: procrastinate's own, which know no versions. `migrate` applies and records them.

Its triggers, which write a history and notify, are off: jobs have a history of their own, and workers are notified after the
commit. The function that fetches is planned anew for each call: a plan from the time when the table was empty would read
all of it for each job.
"""

import asyncio
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager
from psycopg.rows import tuple_row

from ..db.connection import MIGRATE, Database
from ..db.failures import reason
from ..db.url import DatabaseUrl
from ..errors import DatabaseBehind, DatabaseUnusable
from ..moments import timestamp, utc_now

MIGRATES = f"QAA_JOBS_ENGINE=distributed {MIGRATE}"
FETCH = "procrastinate_fetch_job_v2(character varying[], bigint)"
PLANNED = "plan_cache_mode=force_custom_plan"

_LOCK = 0x71756172745F6A62  # "quart_jb"
_CONNECT_SECONDS = 5
_TRIGGERS = (
    "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('procrastinate_jobs') AND NOT tgisinternal "
    "AND tgenabled <> 'D' ORDER BY tgname"
)
_PLANNED = f"SELECT 1 FROM pg_proc WHERE oid = to_regprocedure('{FETCH}') AND '{PLANNED}' = ANY (proconfig)"


@dataclass(frozen=True, slots=True)
class EngineState:
    """`pending`, `unknown`: steps missing in the database, and in the installed procrastinate. `triggers`: to be turned off."""

    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    is_planned: bool
    triggers: tuple[str, ...]


async def upgrade(url: DatabaseUrl) -> list[str]:
    """Bring the tables up to date, in one transaction, one process at a time. Return the names of the steps; of new tables, the
    last one alone.

    `migrate` must have run. Raises DatabaseUnusable, DatabaseBehind.
    """
    known = await asyncio.to_thread(_steps)
    try:
        connecting = psycopg.AsyncConnection.connect(url.conninfo(_CONNECT_SECONDS), row_factory=tuple_row)
        async with await connecting as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            return await _upgrade(connection, known)
    except psycopg.Error as error:
        if (why := reason(error)) is not None:
            raise DatabaseUnusable(f"cannot use {url.printable}: the database {why}") from error
        raise


async def _upgrade(connection: psycopg.AsyncConnection[tuple[str]], known: dict[str, Path]) -> list[str]:
    async def column(query: str) -> list[str]:
        return [row[0] for row in await (await connection.execute(query.encode())).fetchall()]

    applied = await column("SELECT name FROM engine_migrations ORDER BY name")
    if unknown := [name for name in applied if name not in known]:
        raise DatabaseBehind(_newer(unknown))
    pending = [name for name in known if name not in applied]
    if not applied:
        if await column("SELECT 'there' WHERE to_regclass('procrastinate_jobs') IS NOT NULL"):
            raise DatabaseUnusable(
                f"cannot use {connection.info.dbname}: it has tables of procrastinate that this service has not made; "
                "use another database"
            )
        await connection.execute((await asyncio.to_thread(SchemaManager.get_schema)).encode())
    else:
        for name in pending:
            await connection.execute(await asyncio.to_thread(known[name].read_bytes))
    for name in pending:
        await connection.execute(
            "INSERT INTO engine_migrations (name, applied_at) VALUES (%s, %s)", (name, timestamp(utc_now()))
        )
    if not await column(_PLANNED):
        await connection.execute(f"ALTER FUNCTION {FETCH} SET plan_cache_mode = force_custom_plan".encode())
    for trigger in await column(_TRIGGERS):
        await connection.execute(f'ALTER TABLE procrastinate_jobs DISABLE TRIGGER "{trigger}"'.encode())
    return [f"procrastinate {name}" for name in (pending if applied else pending[-1:])]


async def state(database: Database) -> EngineState:
    """Return the state of the tables. Raises DatabaseUnavailable."""
    known = await asyncio.to_thread(_steps)
    applied = [str(row[0]) for row in await database.rows("SELECT name FROM engine_migrations ORDER BY name")]
    return EngineState(
        tuple(name for name in known if name not in applied),
        tuple(name for name in applied if name not in known),
        bool(await database.rows(_PLANNED)),
        tuple(row[0] for row in await database.rows(_TRIGGERS)),
    )


async def check(database: Database) -> None:
    """Raise DatabaseBehind, with the remedy, if the engine needs other tables."""
    found = await state(database)
    if found.unknown:
        raise DatabaseBehind(_newer(found.unknown))
    if found.pending:
        raise DatabaseBehind(f"the database lacks tables of the distributed engine: run `{MIGRATES}`")


def _newer(unknown: Iterable[str]) -> str:
    return (
        f"the tables of the distributed engine are newer than the installed procrastinate, by {', '.join(unknown)}: "
        "upgrade the program"
    )


@functools.cache
def _steps() -> dict[str, Path]:
    """Return the files that changed the schema from version to version, by their names, in order."""
    return {file.name: file for file in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))}
