"""What happens to jobs once they are queued: claims, runs and their ends. What a run writes is fenced by its token."""

import json
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

from ..db.failures import as_unavailable
from ..db.group_commit import Unit
from ..moments import later
from . import queue, sql, usage, workers
from .reading import Reading
from .states import JobRecord, Status
from .units import Changes, JobUnits

log = logging.getLogger(__name__)


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"  # it was queued, and is no more
    REQUESTED = "requested"  # it runs, and will be told
    ENDED = "ended"  # it had ended already


class Transitions:
    """Times come in as timestamps; nothing here asks the clock."""

    def __init__(self, units: JobUnits, reading: Reading) -> None:
        self._units = units
        self._reading = reading

    async def claim(
        self, tasks: Sequence[str], limit: int, worker: str, now: str, new_token: Callable[[], str]
    ) -> list[JobRecord]:
        """Take at most `limit` due jobs of `tasks` for `worker`, the most urgent first, of each owner in turn.

        Where very many come due at once, those due first are lined up first, and a claim does not wait for the rest.
        """

        def unit(changes: Changes, *, may_wait: bool) -> Unit[list[JobRecord] | None]:
            if not (yield from workers.is_listed(worker)):
                return []  # declared dead: what it claimed now, nobody would ever release
            if (yield from queue.promote(now)) and may_wait:
                return None  # the most urgent may be among those that are left
            claimed = []
            for job_id in (yield from queue.first(tasks, limit)):
                claimed += yield from _take(job_id, worker, now, new_token())
            yield from queue.claimed(claimed)
            return claimed

        for more in reversed(range(queue.PROMOTING_UNITS)):
            claimed = await self._units.run(partial(unit, may_wait=more > 0))
            if claimed is not None:
                return claimed
        return []

    async def claim_one(
        self, job_id: str, tasks: Container[str], worker: str, now: str, token: str
    ) -> JobRecord | None:
        """Take this job for `worker`, whatever its `run_at`: an engine with tickets keeps the time itself.

        None where it is no longer queued, is held until its slot is free, or is not of one of `tasks`.
        """

        def unit(changes: Changes) -> Unit[JobRecord | None]:
            if not (yield from workers.is_listed(worker)):
                return None
            found = yield ("SELECT task FROM jobs WHERE id = ?", (job_id,))
            if not found.rows or found.rows[0]["task"] not in tasks:
                return None
            yield from queue.promote_one(job_id)
            taken = yield from _take(job_id, worker, now, token)
            yield from queue.claimed(taken)
            return taken[0] if taken else None

        return await self._units.run(unit)

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
        """Add an event to a run, and set its progress where given. False where the run is no longer the token's.

        Past `max_events` the event is left out.
        """

        def unit(changes: Changes) -> Unit[bool]:
            number = yield (
                "UPDATE jobs SET last_event = last_event + 1, progress = COALESCE(?, progress) "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND last_event < ? "
                "RETURNING last_event, callback_events, owner",
                (progress, job_id, token, max_events),
            )
            if not number.rows:
                written = yield (
                    "UPDATE jobs SET progress = COALESCE(?, progress) "
                    "WHERE id = ? AND run_token = ? AND status = 'running'",
                    (progress, job_id, token),
                )
                return written.count > 0
            event = sql.event(job_id, number.rows[0]["last_event"], name, data, now)
            yield event
            size = usage.size_of((event,))
            if f"job.{name}" in (number.rows[0]["callback_events"] or ""):
                job = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (job_id,))
                size += yield from usage.weighed(changes.told(sql.record(job.rows[0]), name, now))
            yield from usage.grown(job_id, number.rows[0]["owner"], size)
            return True

        return await self._units.run(unit)

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
    ) -> JobRecord | None:
        """End the run and its job for good; None where the run is no longer the token's."""

        def unit(changes: Changes) -> Unit[JobRecord | None]:
            failures = int(failed_attempt)
            return (
                yield from _end(
                    changes, job_id, token, status, now, later(now, ttl), result, error, progress, failures=failures
                )
            )

        return await self._units.run(unit)

    async def retry(
        self, job_id: str, token: str, now: str, run_at: str, error: str, ttl: float, *, progress: str | None = None
    ) -> JobRecord | None:
        """The attempt failed, and there will be another from `run_at` on, unless somebody has asked for cancellation.

        None where the run is no longer the token's.
        """

        def unit(changes: Changes) -> Unit[JobRecord | None]:
            requeued = yield (
                "UPDATE jobs SET status = 'queued', stage = 'delayed', turn = NULL, failures = failures + 1, run_token = NULL, "
                "worker = NULL, run_at = ?, progress = COALESCE(?, progress), last_event = last_event + 1 "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {sql.ALL}",
                (run_at, progress, job_id, token),
            )
            if not requeued.rows:
                return (
                    yield from _end(
                        changes, job_id, token, Status.CANCELLED, now, later(now, ttl), None, None, progress, failures=1
                    )
                )
            job = sql.record(requeued.rows[0])
            yield from changes.queued(job)
            yield from queue.admit(job, changes)
            yield from _again(job, now, "failed", error, run_at)
            return job

        return await self._units.run(unit)

    async def hasten(self, job_id: str, run_at: str, now: str) -> None:
        """The wait until `run_at` is over, whatever the clock says."""

        def unit(changes: Changes) -> Unit[None]:
            yield (
                "UPDATE jobs SET run_at = ? WHERE id = ? AND status = 'queued' AND run_at = ? AND run_at > ?",
                (now, job_id, run_at, now),
            )

        await self._units.run(unit)

    async def give_back(self, job_id: str, token: str, now: str, ttl: float, *, progress: str | None = None) -> bool:
        """End a run that a shutdown stopped, or that nobody runs, as if its attempt had never been.

        Where somebody asked for its cancellation, the job is cancelled. False where the run is no longer the token's.
        """

        def unit(changes: Changes) -> Unit[bool]:
            given = yield (
                # Ready at once: it was due when it was claimed, even if the clock was set back since.
                "UPDATE jobs SET status = 'queued', stage = 'ready', attempt = attempt - 1, started_at = NULL, "
                "run_token = NULL, worker = NULL "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {sql.ALL}",
                (job_id, token),
            )
            for row in given.rows:
                job = sql.record(row)
                yield from changes.queued(job)
                yield from queue.admit(job, changes)
                return True
            expires_at = later(now, ttl)
            ended = yield from _end(changes, job_id, token, Status.CANCELLED, now, expires_at, None, None, progress)
            return ended is not None

        return await self._units.run(unit)

    async def cancel(self, job_id: str, now: str, ttl: float) -> tuple[CancelAnswer, JobRecord]:
        """Cancel what is queued, ask what runs to stop. Raises JobNotFound, JobExpired."""

        def unit(changes: Changes) -> Unit[tuple[CancelAnswer, JobRecord] | None]:
            gone = yield (
                "UPDATE jobs SET status = 'cancelled', stage = NULL, finished_at = ?, expires_at = ?, cancel_requested_at = ?, "
                f"last_event = last_event + 1 WHERE id = ? AND status = 'queued' RETURNING {sql.ALL}",
                (now, later(now, ttl), now, job_id),
            )
            if gone.rows:
                job = sql.record(gone.rows[0])
                yield from changes.cancelled(job)
                yield from queue.admit(job, changes)
                yield from _happened(changes, job, "cancelled", now)
                return CancelAnswer.CANCELLED, job
            asked = yield (
                "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) "
                f"WHERE id = ? AND status = 'running' RETURNING {sql.ALL}",
                (now, job_id),
            )
            if asked.rows:
                job = sql.record(asked.rows[0])
                yield from changes.cancelled(job)
                return CancelAnswer.REQUESTED, job
            ended = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (job_id,))
            return (CancelAnswer.ENDED, sql.record(ended.rows[0])) if ended.rows else None

        answer = await self._units.run(unit)
        if answer is None:
            return CancelAnswer.ENDED, await self._reading.get(job_id, None)
        return answer

    async def bury(self, worker: str, now: str, ttl: float, crash_limit: int, crashed: str) -> int:
        """Declare a worker dead: its runs end here, and their jobs run again, but for those that have crashed too often.

        `crashed` is the problem, as JSON, of a job that has. Returns how many jobs it left.
        """

        def unit(changes: Changes) -> Unit[list[JobRecord]]:
            if not (yield from workers.struck_off(worker)):
                return []
            left = yield (f"SELECT {sql.ALL} FROM jobs WHERE status = 'running' AND worker = ?", (worker,))
            jobs: list[JobRecord] = []
            for row in left.rows:
                jobs += [(yield from _crashed(changes, sql.record(row), now, later(now, ttl), crash_limit, crashed))]
            return jobs

        try:
            left = _reported(await self._units.run(unit))
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            # One of the runs cannot be written: each by itself, so that it holds up no other.
            runs = await self._reading.runs(worker)
            for run in runs:
                await self.crash(run.job_id, run.token, now, ttl, crash_limit, crashed)
            left = len(runs) + _reported(await self._units.run(unit))
        return left

    async def crash(self, job_id: str, token: str, now: str, ttl: float, crash_limit: int, crashed: str) -> None:
        """End a run as if its process had died: where its outcome cannot be written, or nobody is left to write it.

        Where its history cannot be written either, the job's row alone is.
        """

        def unit(changes: Changes, *, plain: bool) -> Unit[list[JobRecord]]:
            run = yield (
                f"SELECT {sql.ALL} FROM jobs WHERE id = ? AND run_token = ? AND status = 'running'",
                (job_id, token),
            )
            jobs: list[JobRecord] = []
            for row in run.rows:
                job, expires_at = sql.record(row), later(now, ttl)
                jobs += [(yield from _crashed(changes, job, now, expires_at, crash_limit, crashed, plain=plain))]
            return jobs

        try:
            _reported(await self._units.run(partial(unit, plain=False)))
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            log.exception("what happened to job %s cannot be written: its history lacks it", job_id)
            _reported(await self._units.run(partial(unit, plain=True)))


def _take(job_id: str, worker: str, now: str, token: str) -> Unit[list[JobRecord]]:
    taken = yield (
        "UPDATE jobs SET status = 'running', stage = 'running', attempt = attempt + 1, run_token = ?, worker = ?, "
        f"started_at = ? WHERE id = ? AND stage = 'ready' AND status = 'queued' RETURNING {sql.ALL}",
        (token, worker, now, job_id),
    )
    return [sql.record(row) for row in taken.rows]


def _crashed(
    changes: Changes, job: JobRecord, now: str, expires_at: str, crash_limit: int, crashed: str, *, plain: bool = False
) -> Unit[JobRecord]:
    """Count the crash; then the job runs again, unless it has crashed too often. `plain`: without its history.

    Returns the job as it is then.
    """
    is_over = job.crashes + 1 >= crash_limit
    if job.cancel_requested_at or is_over:
        status, error = (Status.CANCELLED, None) if job.cancel_requested_at else (Status.FAILED, crashed)
        token = job.run_token or ""
        ended = yield from _end(changes, job.id, token, status, now, expires_at, None, error, crashes=1, plain=plain)
        return ended or job
    requeued = yield (
        "UPDATE jobs SET status = 'queued', stage = 'ready', crashes = crashes + 1, run_token = NULL, worker = NULL, "
        f"last_event = last_event + 1 WHERE id = ? RETURNING {sql.ALL}",
        (job.id,),
    )
    again = sql.record(requeued.rows[0])
    yield from changes.queued(again)
    if not plain:
        yield from _again(again, now, "crashed", None, now)
    return again


def _reported(crashed: list[JobRecord]) -> int:
    """Log those that have failed for good; how many crashed."""
    for job in crashed:
        if job.status is Status.FAILED:
            log.error(
                "job %s (%s) failed for good: it has crashed %d times",
                job.id,
                job.task,
                job.crashes,
                extra={"job_id": job.id, "task": job.task, "attempt": job.attempt},
            )
    return len(crashed)


def _end(
    changes: Changes,
    job_id: str,
    token: str,
    status: Status,
    now: str,
    expires_at: str,
    result: str | None,
    error: str | None,
    progress: str | None = None,
    *,
    failures: int = 0,
    crashes: int = 0,
    plain: bool = False,
) -> Unit[JobRecord | None]:
    ended = yield (
        "UPDATE jobs SET status = ?, stage = NULL, finished_at = ?, expires_at = ?, result = ?, error = ?, "
        "progress = COALESCE(?, progress), failures = failures + ?, crashes = crashes + ?, run_token = NULL, "
        "worker = NULL, last_event = last_event + 1 "
        f"WHERE id = ? AND run_token = ? AND status = 'running' RETURNING {sql.ALL}",
        (status.value, now, expires_at, result, error, progress, failures, crashes, job_id, token),
    )
    if not ended.rows:
        return None
    job = sql.record(ended.rows[0])
    yield from queue.admit(job, changes)
    if plain:
        yield from usage.grown(job.id, job.owner, 0, ended=True)
        return job
    attempt = sql.attempt(job, now, "crashed" if crashes else status.value, error)
    yield attempt
    outcome = len((result or "").encode()) + len((error or "").encode())
    yield from _happened(changes, job, status.value, now, outcome + usage.size_of((attempt,)))
    return job


def _happened(changes: Changes, job: JobRecord, event: str, now: str, size: int = 0) -> Unit[None]:
    """The end of a job: an event that shows it as it is now, and what that sends to whom it calls back.

    `size` is what else its end has stored.
    """
    statement = sql.event(job.id, job.last_event, event, job.document(whole=False), now)
    yield statement
    called = yield from usage.weighed(changes.told(job, event, now))
    yield from usage.grown(job.id, job.owner, size + usage.size_of((statement,)) + called, ended=True)


def _again(job: JobRecord, now: str, outcome: str, error: str | None, run_at: str) -> Unit[None]:
    """The end of an attempt that another follows."""
    data = {"attempt": job.attempt, "run_at": run_at, "error": error and json.loads(error)}
    attempt, event = sql.attempt(job, now, outcome, error), sql.event(job.id, job.last_event, "retry", data, now)
    yield attempt
    yield event
    yield from usage.grown(job.id, job.owner, usage.size_of((attempt, event)))
