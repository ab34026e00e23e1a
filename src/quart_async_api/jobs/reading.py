"""Reads jobs: one, a page of them, and those of a worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..db.connection import Database
from ..db.group_commit import Rows
from ..errors import JobExpired, JobNotFound
from ..moments import later, moment
from ..stored import shown_problem
from . import queue, sql
from .ids import first_id, ids_from
from .states import JobRecord, Status


@dataclass(frozen=True, slots=True)
class Running:
    """A running attempt. `cancelled`: its cancellation was requested."""

    job_id: str
    token: str
    cancelled: bool


class Reading:
    """The committed jobs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, job_id: str, seen_by: str | None) -> JobRecord:
        """Return a job of the owner `seen_by` (`None`: any owner).

        Raises JobNotFound, also for a job of another owner, JobExpired, or Unreadable.
        """
        if "\0" in job_id:  # as in ?last_event_id=%00:1; PostgreSQL refuses such a text
            raise JobNotFound("no job has this id")
        if rows := await self._database.rows(f"SELECT owner, {sql.ALL} FROM jobs WHERE id = ?", job_id):
            owner, *values = rows[0]
            if seen_by in (None, owner):
                return sql.record_of(values)
            raise JobNotFound("no job has this id")
        left = await self._database.read("SELECT task, finished_at, owner FROM job_tombstones WHERE id = ?", job_id)
        if left and seen_by in (None, left[0]["owner"]):
            raise JobExpired(job_id, left[0]["task"], left[0]["finished_at"])
        raise JobNotFound("no job has this id")

    async def page(
        self,
        limit: int,
        seen_by: str | None,
        *,
        before: str | None = None,
        status: Status | None = None,
        task: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        retry_of: str | None = None,
    ) -> list[JobRecord]:
        """Return at most `limit` jobs of the owner `seen_by` (`None`: all), newest first, with ids before `before`.

        Arguments and results that are too long for a list are LEFT_OUT. Unreadable rows are skipped.
        """
        wanted = [
            ("owner = ?", seen_by),
            ("status = ?", status and status.value),
            ("task = ?", task),
            ("retry_of = ?", retry_of),
            ("created_at > ?", created_after),
            ("created_at < ?", created_before),
            # Ids begin with the creation time, so these two limit the scan, which goes by id.
            ("id >= ?", created_after and first_id(moment(created_after))),
            ("id < ?", created_before and first_id(moment(later(created_before, 0.001)))),
        ]
        found: list[JobRecord] = []
        # The first query logs unreadable rows, the second excludes them: two queries for any number of such rows.
        for readable in ("1 = 1", sql.READABLE):
            given = [(condition, value) for condition, value in (*wanted, ("id < ?", before)) if value is not None]
            where = " AND ".join([readable, *(condition for condition, _ in given)])
            missing = limit - len(found)
            rows = await self._database.rows(
                f"SELECT {sql.LISTED} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",
                *(value for _, value in given),
                missing,
            )
            found += sql.records_of(rows)
            if len(rows) < missing or len(found) == limit:
                break
            before = rows[-1][0]  # its id
        return found

    async def beginning(self, digits: str, seen_by: str | None) -> list[str]:
        """Return at most two ids of jobs of the owner `seen_by` (`None`: any) that begin with these hexadecimal digits."""
        owned, owner = ("", ()) if seen_by is None else ("owner = ? AND ", (seen_by,))
        rows = await self._database.rows(
            f"SELECT id FROM jobs WHERE {owned}id BETWEEN ? AND ? ORDER BY id LIMIT 2", *owner, *ids_from(digits)
        )
        return [row[0] for row in rows]

    async def unfinished(self, owner: str) -> list[str]:
        """Return the ids of an owner's unfinished jobs without a cancellation request."""
        rows = await self._database.read(
            "SELECT id FROM jobs WHERE owner = ? AND status IN ('queued', 'running') AND cancel_requested_at IS NULL",
            owner,
        )
        return [row["id"] for row in rows]

    async def attempts(self, job_id: str, *, tracebacks: bool = False) -> Rows:
        """Return the ended attempts of a job, first to last. Where there is a traceback, it is for admins."""
        rows = await self._database.read(
            f"SELECT number, started_at, finished_at, outcome, error{', traceback' if tracebacks else ''} "
            "FROM job_attempts WHERE job_id = ? ORDER BY number",
            job_id,
        )
        return [
            {name: value for name, value in row.items() if name != "traceback" or value is not None}
            | {"error": shown_problem(row["error"], f"an attempt of job {job_id}")}
            for row in rows
        ]

    async def runs(self, worker: str) -> list[Running]:
        """Return the runs of a worker."""
        rows = await self._database.read(
            "SELECT id, run_token, cancel_requested_at FROM jobs WHERE status = 'running' AND worker = ?", worker
        )
        return [Running(row["id"], row["run_token"], row["cancel_requested_at"] is not None) for row in rows]

    async def is_due(self, tasks: Sequence[str], now: str) -> bool:
        """Return whether a claim may find a job of `tasks`."""
        for statement, values in queue.is_due(tasks, now):
            if await self._database.read(statement, *values):
                return True
        return False
