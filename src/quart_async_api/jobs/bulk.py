"""Changes of many jobs by one job, in pages: each page is changed in one transaction with the place that was reached.

So a run that starts again goes on where the last one was, and two runs at a time do nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..db.connection import Database
from ..db.group_commit import Unit, in_step
from ..moments import later, moment
from . import sql
from .ids import first_id
from .states import JobRecord, Status
from .submission import New, Submission, insert_all
from .transitions import CancelAnswer, Transitions, cancelling
from .units import Changes, JobUnits

COUNTED = 10_000  # jobs in one query, to keep it short


@dataclass(frozen=True, slots=True)
class Wanted:
    """The jobs of an owner (None: of all) that existed at the moment `until`, without those of the task `but`.

    A job that had not ended by then is not among those of a terminal status.
    """

    owner: str | None
    statuses: tuple[Status, ...]
    until: str
    but: str
    task: str | None = None
    created_after: str | None = None
    created_before: str | None = None

    def condition(self, status: Status, after: str) -> tuple[str, list[Any]]:
        """Return the condition of the jobs with this status and an id above `after`, with its values."""
        wanted = [
            ("owner = ?", self.owner),
            ("status = ?", status.value),
            ("task = ?", self.task),
            ("task <> ?", self.but),
            ("created_at > ?", self.created_after),
            ("created_at < ?", self.created_before),
            ("created_at <= ?", self.until),
            ("finished_at <= ?", self.until if status.is_terminal else None),
            # Ids begin with the creation time, so these limit the scan, which goes by id.
            ("id > ?", max(after, first_id(moment(self.created_after)) if self.created_after else "")),
            ("id < ?", first_id(moment(later(min(self.until, self.created_before or self.until), 0.001)))),
        ]
        given = [(condition, value) for condition, value in wanted if value is not None]
        return " AND ".join(condition for condition, _ in given), [value for _, value in given]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a bulk job is: `done` of `matched` jobs are changed, and those of `status` are visited up to `last_id`."""

    matched: int
    done: int
    status: Status
    last_id: str


class Bulk:
    """The bulk jobs of one database. Times are arguments (timestamps)."""

    def __init__(self, database: Database, units: JobUnits, submission: Submission, transitions: Transitions) -> None:
        self._database = database
        self._units = units
        self._submission = submission
        self._transitions = transitions

    async def count(self, wanted: Wanted) -> int:
        """Return the number of jobs. Reads them in parts, so that no query takes long."""
        number = 0
        for status in wanted.statuses:
            after, found = "", COUNTED
            while found == COUNTED:
                where, values = wanted.condition(status, after)
                [[found, last]] = await self._database.rows(
                    f"SELECT COUNT(*), MAX(id) FROM (SELECT id FROM jobs WHERE {where} ORDER BY id LIMIT ?) AS head",
                    *values,
                    COUNTED,
                )
                number, after = number + found, last or ""
        return number

    async def place(self, job_id: str) -> Place | None:
        """Return the place of a bulk job; None if it has not begun."""
        rows = await self._database.rows(
            "SELECT matched, done, status, last_id FROM job_bulks WHERE job_id = ?", job_id
        )
        return Place(rows[0][0], rows[0][1], Status(rows[0][2]), rows[0][3]) if rows else None

    async def begin(self, job_id: str, wanted: Wanted) -> Place:
        """Count the jobs, and store the place before the first one."""
        place = Place(await self.count(wanted), 0, wanted.statuses[0], "")

        def unit(changes: Changes) -> "Unit[None]":
            yield (
                "INSERT INTO job_bulks (job_id, matched, done, status, last_id) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (job_id) DO NOTHING",
                (job_id, place.matched, place.done, place.status.value, place.last_id),
            )

        await self._units.run(unit)
        return await self.place(job_id) or place

    async def page(self, wanted: Wanted, place: Place, limit: int) -> list[str]:
        """Return the ids of the next `limit` jobs of the status of `place`."""
        where, values = wanted.condition(place.status, place.last_id)
        rows = await self._database.rows(f"SELECT id FROM jobs WHERE {where} ORDER BY id LIMIT ?", *values, limit)
        return [row[0] for row in rows]

    async def jobs(self, ids: Sequence[str]) -> list[JobRecord]:
        """Return those of these jobs that are still there and readable, by id."""
        marks = ", ".join("?" for _ in ids)
        rows = await self._database.rows(f"SELECT {sql.ALL} FROM jobs WHERE id IN ({marks}) ORDER BY id", *ids)
        return sql.records_of(rows)

    async def cancel(self, job_id: str, place: Place, ids: Sequence[str], now: str, ttl: float) -> Place | None:
        """Cancel those of these jobs that still have the status of `place`. Return the next place; None if another run of the
        bulk job has gone on from `place`."""

        def unit(changes: Changes) -> "Unit[tuple[Place, list[JobRecord]] | None]":
            if not (yield from _is_at(job_id, place)):
                return None
            marks = ", ".join("?" for _ in ids)
            found = yield (
                f"SELECT id FROM jobs WHERE id IN ({marks}) AND status = ? ORDER BY id /*FOR UPDATE*/",
                (*ids, place.status.value),
            )
            answers = yield from in_step(cancelling(changes, row["id"], now, ttl) for row in found.rows)
            done = [answer for answer in answers if answer is not None and answer[0] is not CancelAnswer.ENDED]
            cancelled = [job for answer, job in done if answer is CancelAnswer.CANCELLED]
            return (yield from _goes_on(job_id, place, place.status, ids[-1], len(done))), cancelled

        if (written := await self._units.run(unit)) is None:
            return None
        for job in written[1]:
            self._transitions.cancelled(job)
        return written[0]

    async def insert(self, job_id: str, place: Place, last_id: str, new: Sequence[New]) -> Place | None:
        """Insert the retries of a page that ends at `last_id`. Return the next place like `cancel`.

        Raises QueueFull or QuotaExceeded, and inserts nothing, if there is not room for all of them.
        """

        def unit(changes: Changes) -> "Unit[Place | None]":
            if not (yield from _is_at(job_id, place)):
                return None
            for refusal in (yield from insert_all([(changes, each) for each in new])) if new else ():
                if refusal is not None:
                    raise refusal
            return (yield from _goes_on(job_id, place, place.status, last_id, len(new)))

        if (following := await self._units.run(unit)) is not None:
            for each in new:
                self._submission.inserted(each.job)
        return following

    async def turn_to(self, job_id: str, place: Place, status: Status) -> Place | None:
        """Go on with the jobs of the next status."""

        def unit(changes: Changes) -> "Unit[Place | None]":
            if not (yield from _is_at(job_id, place)):
                return None
            return (yield from _goes_on(job_id, place, status, "", 0))

        return await self._units.run(unit)


def _is_at(job_id: str, place: Place) -> Unit[bool]:
    found = yield (
        "SELECT 1 FROM job_bulks WHERE job_id = ? AND status = ? AND last_id = ? /*FOR UPDATE*/",
        (job_id, place.status.value, place.last_id),
    )
    return bool(found.rows)


def _goes_on(job_id: str, place: Place, status: Status, last_id: str, done: int) -> Unit[Place]:
    yield (
        "UPDATE job_bulks SET status = ?, last_id = ?, done = done + ? WHERE job_id = ?",
        (status.value, last_id, done, job_id),
    )
    return Place(place.matched, place.done + done, status, last_id)
