"""Makes tickets and queued jobs agree again: after a switch of engines, a restored backup, or a crash at the wrong moment."""

import logging
import time
from collections.abc import Callable

import psycopg
from psycopg.rows import tuple_row

from ..background.loops import Loop
from ..db.connection import Database
from ..db.failures import translated
from . import tickets

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0  # of all processes together
HURRY_SECONDS = 1.0  # more than a living worker takes from its fetch to its claim
BATCH = 2000  # jobs, and tickets, in one round
BACKLOG = 200  # tickets, from which on the planner needs statistics
ANALYZE_SECONDS = 60.0
_LOCK = 0x71756172745F7263  # "quart_rc"


class Reconciler:
    """The loop of one process. `others` is the number of other processes.

    `on_written` is called when tickets were written.
    """

    def __init__(
        self,
        database: Database,
        others: Callable[[], int],
        on_written: Callable[[], None],
    ) -> None:
        self._database = database
        self._others = others
        self._on_written = on_written
        self._jobs_from, self._tickets_from = "", 0  # where the next round begins
        self._suspects: set[str] = set()  # jobs whose ticket was fetched when this process looked
        self._looks_again = False  # at the same jobs, soon
        self._hurries = 0  # rounds that are to follow soon
        self._analyzed_at = -ANALYZE_SECONDS
        self.loop = Loop("tickets", self.reconcile, every=self._interval)

    def hurry(self) -> None:
        """Do two rounds now: a worker has died, perhaps after it had fetched tickets."""
        self._hurries = 2
        self.loop.wake()

    def _interval(self) -> float:
        return HURRY_SECONDS if self._hurries or self._looks_again else EVERY_SECONDS * (1 + self._others())

    async def reconcile(self) -> None:
        """Do one round, unless another process does one right now. Raises DatabaseUnavailable."""
        with translated():
            async with self._database.client.acquire_connection() as connection:
                async with connection.transaction():
                    [(is_alone,)] = await _rows(connection, "SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
                    if not is_alone:
                        return
                    if self._hurries:
                        self._hurries, self._jobs_from = self._hurries - 1, ""
                    written = await self._write_missing(connection)
                    seen = await self._remove_orphans(connection)
                if seen > BACKLOG and time.monotonic() - self._analyzed_at > ANALYZE_SECONDS:
                    self._analyzed_at = time.monotonic()
                    await connection.execute("ANALYZE procrastinate_jobs")
        if written:
            self._on_written()

    async def _write_missing(self, connection: psycopg.AsyncConnection) -> int:
        rows = await _rows(connection, tickets.JOBS, (self._jobs_from, BATCH))
        missing = {job_id for job_id, is_out, _ in rows if is_out}
        # A worker may be about to claim it. Or it has died, or has not heard the answer to its fetch.
        fetched = {job_id for job_id, _, is_fetched in rows if is_fetched} & missing
        missing -= fetched - self._suspects
        self._looks_again = not self._looks_again and not fetched <= self._suspects
        if not self._looks_again:
            self._jobs_from = rows[-1][0] if len(rows) == BATCH else ""
        self._suspects = self._suspects.difference(job_id for job_id, _, _ in rows) | fetched
        if not missing:
            return 0
        await connection.execute(tickets.WRITE_ALL, (sorted(missing),))
        log.warning("wrote the tickets of %d queued jobs that had none", len(missing))
        return len(missing)

    async def _remove_orphans(self, connection: psycopg.AsyncConnection) -> int:
        """Remove tickets without a queued job, and fetched ones of workers that are gone. Return the tickets that it saw."""
        rows = await _rows(connection, tickets.TICKETS, (self._tickets_from, BATCH))
        self._tickets_from = rows[-1][0] if len(rows) == BATCH else 0
        orphans = [ticket for ticket, is_orphan in rows if is_orphan]
        orphans += [ticket for (ticket,) in await _rows(connection, tickets.LEFT, ())]
        if orphans:
            locked = [ticket for (ticket,) in await _rows(connection, tickets.LOCK, (orphans,))]
            removed = await connection.execute(tickets.REMOVE_ALL, (locked,))
            log.info("removed %d tickets that no job needs", removed.rowcount)
        return len(rows)


async def _rows(connection: psycopg.AsyncConnection, query: str, values: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]
    async with connection.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(query.encode(), values)).fetchall()
