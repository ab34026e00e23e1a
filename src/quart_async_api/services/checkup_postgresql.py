"""What `doctor` looks at in a PostgreSQL database: notifications, its clock, and transactions that stay open."""

from typing import TYPE_CHECKING, cast

import psycopg

from ..db.connection import Database
from ..db.failures import translated
from ..moments import utc_now
from .check import Check, listed

if TYPE_CHECKING:
    from datetime import datetime

CONNECT_SECONDS = 5
HEAR_SECONDS = 5.0
CLOCK_SECONDS = 1.0
OPEN_SECONDS = 300
_CHANNEL = "quart_async_api_doctor"


async def checks(database: Database) -> list[Check]:
    with translated():
        return [await _listening(database), await _clock(database), await _transactions(database)]


async def _listening(database: Database) -> Check:
    connecting = psycopg.AsyncConnection.connect(database.url.conninfo(CONNECT_SECONDS), autocommit=True)
    async with await connecting as connection:
        await connection.execute(f"LISTEN {_CHANNEL}".encode())
        await database.rows("SELECT pg_notify(?, '')", _CHANNEL)
        async for _ in connection.notifies(timeout=HEAR_SECONDS, stop_after=1):
            return Check("notifications", "arrive")
    return Check(
        "notifications",
        fault="a connection that listens hears nothing",
        why="behind a pooler that shares connections between transactions, jobs, cancellations and events of other processes "
        "arrive half a second late, and living workers lose their locks",
        remedy="set QAA_DATABASE_URL to the server itself, or to a port of the pooler in session mode",
    )


async def _clock(database: Database) -> Check:
    before = utc_now()
    [[theirs]] = await database.rows("SELECT clock_timestamp()")
    half = (utc_now() - before) / 2
    off = (cast("datetime", theirs) - before - half).total_seconds()
    if abs(off) > CLOCK_SECONDS + half.total_seconds():  # the answer may have been under way for all the time, or none
        return Check(
            "clock",
            fault=f"the clock of the database is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the one of this host",
            why="delayed jobs start that much too early or too late, and times of jobs do not agree",
            remedy="timedatectl set-ntp true, on both hosts",
        )
    return Check("clock", f"{off * 1000:+.0f} ms from this host")


async def _transactions(database: Database) -> Check:
    rows = await database.rows(
        "SELECT pid, application_name, state, EXTRACT(epoch FROM now() - xact_start)::int FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND xact_start < now() - make_interval(secs => ?) ORDER BY xact_start",
        OPEN_SECONDS,
    )
    if rows:
        return Check(
            "transactions",
            fault=f"open for more than {OPEN_SECONDS} s: "
            + listed(f"pid {pid} ({name or 'no name'}, {state}, {age} s)" for pid, name, state, age in rows),
            why="deleted rows stay on the disk, so fetching a job gets slower; and the stream of all jobs waits",
            remedy=f"psql -c 'SELECT pg_terminate_backend({rows[0][0]})'",
        )
    return Check("transactions", f"none is open for more than {OPEN_SECONDS} s")
