"""Databases with many rows, written past the service so that a million take seconds."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.sql import COLUMNS
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import timestamp

_NOW = datetime.now(UTC)
_LATER = "2999-01-01T00:00:00.000000Z"
_NEW = JobRecord(
    id="",
    task="noop",
    status=Status.QUEUED,
    args="{}",
    urgency=0,
    max_attempts=1,
    timeout=None,
    created_at=timestamp(_NOW),
    run_at=timestamp(_NOW),
    bytes=200,
)
_ENDED = _NEW._replace(
    status=Status.SUCCEEDED,
    started_at=_NEW.run_at,
    finished_at=_NEW.run_at,
    expires_at=_LATER,
    attempt=1,
    last_event=1,
    result="1.0",
)
_FAILED = _ENDED._replace(status=Status.FAILED, result=None, error='{"title": "It failed"}')


def finished_jobs(file: Path, count: int) -> None:
    """Each with its attempt and its event; every tenth failed."""
    with _writing(file) as database:
        ended = [(new_id(), _FAILED if number % 10 == 0 else _ENDED) for number in range(count)]
        _insert(database, ended)
        database.executemany(
            "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome) VALUES (?, 1, ?, ?, ?)",
            ((name, job.started_at, job.finished_at, job.status) for name, job in ended),
        )
        database.executemany(
            "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, 1, ?, '{}', ?)",
            ((name, job.status, job.finished_at) for name, job in ended),
        )


def queued_jobs(file: Path, count: int) -> None:
    """Half of them delayed by an hour, half ready, of a task that no process has."""
    delayed = _NEW._replace(stage="delayed", run_at=timestamp(_NOW + timedelta(hours=1)))
    with _writing(file) as database:
        _insert(database, ((new_id(), delayed) for _ in range(count // 2)))
        ready = _NEW._replace(task="elsewhere", stage="ready")
        _insert(database, ((new_id(), ready._replace(turn=number)) for number in range(1, count // 2 + 1)))


def users(file: Path, count: int) -> None:
    """As many more users."""
    with _writing(file) as database:
        rows = ((f"User {number}", f"more{number}@example.com") for number in range(count))
        database.executemany(
            "INSERT INTO users (name, email, email_key) VALUES (?, ?, ?)", ((name, mail, mail) for name, mail in rows)
        )


def _insert(database: sqlite3.Connection, jobs: Iterator[tuple[str, JobRecord]] | list[tuple[str, JobRecord]]) -> None:
    values: dict[int, tuple[object, ...]] = {}  # of the records that many jobs share
    marks = ", ".join("?" for _ in COLUMNS)

    def rows() -> Iterator[tuple[object, ...]]:
        for name, job in jobs:
            if (rest := values.get(id(job))) is None:
                rest = job[1:]
                if job in (_ENDED, _FAILED):
                    values[id(job)] = rest
            yield name, *rest

    database.executemany(f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({marks})", rows())  # noqa: S608


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[sqlite3.Connection]:
    """A transaction, after which the counters of jobs are right, and nothing is left to be written to the disk."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA synchronous = OFF")
        with database:
            yield database
            database.execute("DELETE FROM job_usage")
            database.execute(
                "INSERT INTO job_usage (owner, unfinished, jobs, bytes) SELECT COALESCE(owner, ''), "
                "SUM(finished_at IS NULL), COUNT(*), SUM(bytes) FROM jobs GROUP BY 1"
            )
    with file.open("rb") as written:
        os.fsync(written.fileno())  # else the first commits that are measured would wait for it
