"""The writes of a run, fenced by its token, and the cancellation of jobs."""

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from ..db.group_commit import in_step, one
from ..moments import later
from . import queue, sql, usage
from .ends import End, announce_end, end_attempt, end_job
from .reading import Reading
from .states import JobRecord, Status
from .units import Changes, JobUnits, Part, kind

if TYPE_CHECKING:
    from ..db.group_commit import Unit

log = logging.getLogger(__name__)


class _Note(NamedTuple):
    job_id: str
    token: str
    now: str
    name: str
    data: Mapping[str, Any]
    max_events: int
    progress: str | None


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"  # the job was queued and is now cancelled
    REQUESTED = "requested"  # the job is running and will be cancelled
    ENDED = "ended"  # the job had already ended


_CANCEL_HELD, _CANCEL_QUEUED = (
    "UPDATE jobs SET status = 'cancelled', stage = NULL, finished_at = ?, expires_at = ?, cancel_requested_at = ?, "
    f"last_event = last_event + 1 WHERE id = ? AND {state} RETURNING {sql.ALL}"
    for state in ("stage = 'held'", "status = 'queued'")
)


class Transitions:
    """Changes of jobs. Times are arguments (timestamps): no method reads the clock.

    Each of `on_cancelled` is called with a queued job that is cancelled, and must not raise.
    """

    def __init__(self, units: JobUnits, reading: Reading) -> None:
        self._units = units
        self._reading = reading
        self.on_cancelled: list[Callable[[JobRecord], None]] = []

    async def record(
        self,
        job_id: str,
        token: str,
        now: str,
        name: str,
        data: Mapping[str, Any],
        max_events: int,
        *,
        progress: str | None = None,
    ) -> bool:
        """Add an event to a run, and set its `progress` if given. Return False if the token is no longer the run's.

        After `max_events` events, only the progress is written.
        """

        return await self._units.together(_RECORD, _Note(job_id, token, now, name, data, max_events, progress))

    async def finish(
        self,
        job_id: str,
        token: str,
        status: Status,
        now: str,
        ttl: float,
        *,
        result: str | None = None,
        error: str | None = None,
        progress: str | None = None,
        failed_attempt: bool = False,
        traceback: str | None = None,
        known: JobRecord | None = None,
    ) -> JobRecord | None:
        """End a run and its job, and return the job. None: the job has another run by now, or none, and nothing is written.

        `known`: the job as it was when the run began, which saves a read. `failed_attempt` counts against `max_attempts`.
        """
        end = End(
            job_id,
            token,
            status,
            now,
            later(now, ttl),
            result=result,
            error=error,
            progress=progress,
            failures=int(failed_attempt),
            traceback=traceback,
            known=known,
        )
        return await self._units.together(_FINISH, end)

    async def retry(
        self,
        job_id: str,
        token: str,
        now: str,
        run_at: str,
        error: str,
        ttl: float,
        *,
        progress: str | None = None,
        traceback: str | None = None,
    ) -> JobRecord | None:
        """End a failed attempt and queue the job again for `run_at`, or cancel it if cancellation was requested.

        Returns None if the token is no longer the run's.
        """

        def unit(changes: Changes) -> "Unit[JobRecord | None]":
            requeued = yield (
                "UPDATE jobs SET status = 'queued', stage = 'delayed', turn = NULL, failures = failures + 1, run_token = NULL, "
                "worker = NULL, run_at = ?, progress = COALESCE(?, progress), last_event = last_event + 1 "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {sql.ALL}",
                (run_at, progress, job_id, token),
            )
            if not requeued.rows:
                end = End(job_id, token, Status.CANCELLED, now, later(now, ttl), progress=progress, failures=1)
                return (yield from end_job(changes, end))
            job = sql.record(requeued.rows[0])
            yield from changes.queued(job)
            yield from end_attempt(job, now, "failed", error, run_at, traceback)
            yield from queue.admit(job, changes)
            return job

        return await self._units.step(_RETRY, unit)

    async def hasten(self, job_id: str, run_at: str, now: str) -> None:
        """Make a queued job with this `run_at` due now, even if the clock was set back."""

        def unit(changes: Changes) -> "Unit[None]":
            yield (
                "UPDATE jobs SET run_at = ? WHERE id = ? AND stage = 'delayed' AND run_at = ? AND run_at > ?",
                (now, job_id, run_at, now),
            )

        await self._units.run(unit)

    async def give_back(
        self, job_id: str, token: str, now: str, ttl: float, *, progress: str | None = None
    ) -> JobRecord | None:
        """End a run that a shutdown stopped or no worker runs, and requeue its job: the attempt does not count.

        If cancellation was requested, the job is cancelled. Returns None if the token is no longer the run's.
        """

        def unit(changes: Changes) -> "Unit[JobRecord | None]":
            given = yield (
                # Ready at once: it was due when it was claimed, and the clock may have been set back since.
                "UPDATE jobs SET status = 'queued', stage = 'ready', attempt = attempt - 1, started_at = NULL, "
                "run_token = NULL, worker = NULL "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {sql.ALL}",
                (job_id, token),
            )
            if given.rows:
                job = sql.record(given.rows[0])
                yield from changes.queued(job)
                yield from queue.admit(job, changes)
                return job
            end = End(job_id, token, Status.CANCELLED, now, later(now, ttl), progress=progress)
            return (yield from end_job(changes, end))

        return await self._units.step(_GIVE_BACK, unit)

    async def cancel(self, job_id: str, now: str, ttl: float) -> tuple[CancelAnswer, JobRecord]:
        """Cancel a queued job, or request the cancellation of a running one. Raises JobNotFound, JobExpired."""

        answer = await self._units.step(_CANCEL, lambda changes: cancelling(changes, job_id, now, ttl))
        if answer is None:
            return CancelAnswer.ENDED, await self._reading.get(job_id, None)
        if answer[0] is CancelAnswer.CANCELLED:
            self.cancelled(answer[1])
        return answer

    def cancelled(self, job: JobRecord) -> None:
        """Tell the listeners of a queued job whose cancellation is committed."""
        for listener in self.on_cancelled:
            listener(job)


def cancelling(changes: Changes, job_id: str, now: str, ttl: float) -> "Unit[tuple[CancelAnswer, JobRecord] | None]":
    """Cancel a job inside a transaction. Return None if it is not there."""
    ended = (now, later(now, ttl), now, job_id)
    requested = (
        "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) "
        f"WHERE id = ? AND status = 'running' RETURNING {sql.ALL}",
        (now, job_id),
    )
    while True:  # until no other process has changed it between two statements
        held, gone, asked = yield from in_step(map(one, ((_CANCEL_HELD, ended), (_CANCEL_QUEUED, ended), requested)))
        if rows := held.rows or gone.rows:
            job = sql.record(rows[0])
            yield from changes.cancelled(job)
            grown = yield from announce_end(changes, job, "cancelled", now)
            if not held.rows:  # which had no place in its slot: whoever admits the next one may wait for its row
                yield from queue.admit(job, changes)
            return CancelAnswer.CANCELLED, job._replace(bytes=job.bytes + grown)
        if asked.rows:
            job = sql.record(asked.rows[0])
            yield from changes.cancelled(job)
            return CancelAnswer.REQUESTED, job
        found = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (job_id,))
        if not found.rows:
            return None
        if (job := sql.record(found.rows[0])).status.is_terminal:
            return CancelAnswer.ENDED, job


def _note(changes: Changes, note: _Note) -> "Unit[bool]":
    number = yield (
        "UPDATE jobs SET last_event = last_event + 1, progress = COALESCE(?, progress) "
        "WHERE id = ? AND run_token = ? AND status = 'running' AND last_event < ? "
        "RETURNING last_event, callback_events, owner",
        (note.progress, note.job_id, note.token, note.max_events),
    )
    if not number.rows:
        written = yield (
            "UPDATE jobs SET progress = COALESCE(?, progress) WHERE id = ? AND run_token = ? AND status = 'running'",
            (note.progress, note.job_id, note.token),
        )
        return written.count > 0
    event = sql.event(note.job_id, number.rows[0]["last_event"], note.name, note.data, note.now)
    yield event
    size = usage.size_of((event,))
    if f"job.{note.name}" in (number.rows[0]["callback_events"] or ""):
        job = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (note.job_id,))
        size += yield from usage.weighed(changes.told(sql.record(job.rows[0]), note.name, note.now))
    yield from usage.grown(note.job_id, number.rows[0]["owner"], size)
    return True


def _run(changes: Changes, unit: Part[Any]) -> "Unit[Any]":
    return unit(changes)


_RECORD, _FINISH = kind(_note), kind(end_job)
_RETRY, _GIVE_BACK, _CANCEL = kind(_run), kind(_run), kind(_run)
