"""Ends an attempt or a job. Parts of units: history, callbacks and counters change in the same transaction."""

import json
from typing import NamedTuple

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


class End(NamedTuple):
    """The end of a run and of its job. `failures` and `crashes` are added to those of the job.

    `bare`: only the row of the job changes; no attempt, event or callback is written. `known`: the job as it was
    when the run began. With it the job is read only if it has changed since: to get a whole row from an UPDATE costs as much
    as the UPDATE.
    """

    job_id: str
    token: str
    status: Status
    now: str
    expires_at: str
    result: str | None = None
    error: str | None = None
    progress: str | None = None
    failures: int = 0
    crashes: int = 0
    traceback: str | None = None
    bare: bool = False
    known: JobRecord | None = None


def end_job(changes: Changes, end: End) -> Unit[JobRecord | None]:
    """End a run and its job, and return the job. None: the job has another run by now, or none, and nothing is written."""
    known = end.known
    while True:
        job = known or (yield from _running(end.job_id, end.token))
        if job is None:
            return None
        ended = job._replace(
            status=end.status,
            stage=None,
            finished_at=end.now,
            expires_at=end.expires_at,
            result=end.result,
            error=end.error,
            progress=job.progress if end.progress is None else end.progress,
            failures=job.failures + end.failures,
            crashes=job.crashes + end.crashes,
            run_token=None,
            worker=None,
            last_event=job.last_event + 1,
        )
        history, size = [], 0
        if not end.bare:
            outcome = "crashed" if end.crashes else end.status.value
            attempt = sql.attempt(ended, end.now, outcome, end.error, end.traceback)
            history = [attempt, _last_event(ended, end.status.value, end.now)]
            size = usage.size_of([("", (end.result, end.error)), *history])
        written = yield (
            _END,
            (
                end.status.value, end.now, end.expires_at, end.result, end.error, ended.progress, ended.failures, ended.crashes,
                ended.last_event, size, job.id, end.token, job.last_event, job.progress or "", job.cancel_requested_at or "",
            ),
        )  # fmt: skip
        if written.count > 0:
            break
        known = None
    called = 0
    if not end.bare:
        yield from in_step(map(one, history))
        called = yield from usage.weighed(changes.told(ended, end.status.value, end.now))
    if called:
        yield usage.grown_row(job.id, called)
    yield usage.ended(job.owner, size + called)
    yield from queue.admit(ended, changes)
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
