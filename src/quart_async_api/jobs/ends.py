"""Ends an attempt or a job. Parts of units: history, callbacks and counters change in the same transaction."""

import json

from ..db.group_commit import Unit
from . import queue, sql, usage
from .states import JobRecord, Status
from .units import Changes


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
) -> Unit[JobRecord | None]:
    """End a run and its job. Returns None if the token is no longer the run's. `plain`: write no history."""
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
    attempt = sql.attempt(job, now, "crashed" if crashes else status.value, error, traceback)
    yield attempt
    outcome = len((result or "").encode()) + len((error or "").encode())
    grown = yield from announce_end(changes, job, status.value, now, outcome + usage.size_of((attempt,)))
    return job._replace(bytes=job.bytes + grown)


def announce_end(changes: Changes, job: JobRecord, event: str, now: str, size: int = 0) -> Unit[int]:
    """Write the last event of a job, with its document, and its callback. Return the bytes that its end has stored.

    `size` is the number of its other bytes.
    """
    statement = sql.event(job.id, job.last_event, event, job.document(whole=False), now)
    yield statement
    called = yield from usage.weighed(changes.told(job, event, now))
    size += usage.size_of((statement,)) + called
    yield from usage.grown(job.id, job.owner, size, ended=True)
    return size


def end_attempt(
    job: JobRecord, now: str, outcome: str, error: str | None, run_at: str, traceback: str | None = None
) -> Unit[None]:
    """Write the end of an attempt that is not the last."""
    data = {"attempt": job.attempt, "run_at": run_at, "error": error and json.loads(error)}
    attempt, event = (
        sql.attempt(job, now, outcome, error, traceback),
        sql.event(job.id, job.last_event, "retry", data, now),
    )
    yield attempt
    yield event
    yield from usage.grown(job.id, job.owner, usage.size_of((attempt, event)))
