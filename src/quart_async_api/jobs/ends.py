"""Ends an attempt or a job. Parts of units: history, callbacks and counters change in the same transaction."""

import json

from ..db.group_commit import Statement, Unit, in_step, one
from . import queue, sql, usage
from .states import JobRecord, Status
from .units import Changes

_END = (
    "UPDATE jobs SET status = ?, stage = NULL, finished_at = ?, expires_at = ?, result = ?, error = ?, progress = ?, "
    "failures = ?, crashes = ?, run_token = NULL, worker = NULL, last_event = ?, bytes = bytes + ? "
    "WHERE id = ? AND run_token = ? AND status = 'running' "
    "AND last_event = ? AND COALESCE(progress, '') = ? AND COALESCE(cancel_requested_at, '') = ?"
)


def end_job(
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
    traceback: str | None = None,
    plain: bool = False,
    known: JobRecord | None = None,
) -> Unit[JobRecord | None]:
    """End a run and its job. Returns None if the token is no longer the run's. `plain`: write no history.

    `known`: the job as it was when the run began. It is read only if it has changed since: to get a whole row from an UPDATE
    costs as much as the UPDATE.
    """
    while True:
        job = known or (yield from _running(job_id, token))
        if job is None:
            return None
        ended = job._replace(
            status=status,
            stage=None,
            finished_at=now,
            expires_at=expires_at,
            result=result,
            error=error,
            progress=job.progress if progress is None else progress,
            failures=job.failures + failures,
            crashes=job.crashes + crashes,
            run_token=None,
            worker=None,
            last_event=job.last_event + 1,
        )
        history = []
        if not plain:
            outcome = "crashed" if crashes else status.value
            history = [sql.attempt(ended, now, outcome, error, traceback), _last_event(ended, status.value, now)]
        size = 0 if plain else usage.size_of([("", (result, error)), *history])
        written = yield (
            _END,
            (
                status.value, now, expires_at, result, error, ended.progress, ended.failures, ended.crashes, ended.last_event,
                size, job_id, token, job.last_event, job.progress or "", job.cancel_requested_at or "",
            ),
        )  # fmt: skip
        if written.count > 0:
            break
        known = None
    yield from queue.admit(ended, changes)
    called = 0
    if not plain:
        yield from in_step(map(one, history))
        called = yield from usage.weighed(changes.told(ended, status.value, now))
    if called:
        yield usage.grown_row(job_id, called)
    yield usage.ended(job.owner, size + called)
    return ended._replace(bytes=job.bytes + size + called)


def announce_end(changes: Changes, job: JobRecord, event: str, now: str) -> Unit[int]:
    """Write the last event of a job, with its document, and its callback. Return the bytes that its end has stored."""
    statement = _last_event(job, event, now)
    yield statement
    called = yield from usage.weighed(changes.told(job, event, now))
    size = usage.size_of((statement,)) + called
    yield from usage.grown(job.id, job.owner, size, ended=True)
    return size


def _running(job_id: str, token: str) -> Unit[JobRecord | None]:
    found = yield (
        f"SELECT {sql.ALL} FROM jobs WHERE id = ? AND run_token = ? AND status = 'running'",
        (job_id, token),
    )
    return sql.record(found.rows[0]) if found.rows else None


def _last_event(job: JobRecord, event: str, now: str) -> Statement:
    return sql.event(job.id, job.last_event, event, job.document(whole=False), now)


def end_attempt(
    job: JobRecord, now: str, outcome: str, error: str | None, run_at: str, traceback: str | None = None
) -> Unit[None]:
    """Write the end of an attempt that is not the last."""
    data = {"attempt": job.attempt, "run_at": run_at, "error": error and json.loads(error)}
    attempt, event = (
        sql.attempt(job, now, outcome, error, traceback),
        sql.event(job.id, job.last_event, "retry", data, now),
    )
    yield from in_step(map(one, (attempt, event)))
    yield from usage.grown(job.id, job.owner, usage.size_of((attempt, event)))
