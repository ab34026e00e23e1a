"""The rows of a job: reading its record, and the statements that write it, its events and its attempts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..db.group_commit import Statement
from ..errors import Unreadable
from ..stored import set_aside
from .states import LEFT_OUT, SHOWN_BYTES, JobRecord, Status

COLUMNS = tuple(JobRecord.__annotations__)
ALL = ", ".join(COLUMNS)
_INSERT = f"INSERT INTO jobs ({ALL}) VALUES ({', '.join('?' for _ in COLUMNS)})"
_STATUS = {status.value: status for status in Status}
# The columns for a list: without texts that are too long for it.
LISTED = ", ".join(
    f"CASE WHEN LENGTH({name}) > {most} THEN '{LEFT_OUT}' ELSE {name} END AS {name}"
    if (most := SHOWN_BYTES.get(name))
    else name
    for name in COLUMNS
)


# Condition for rows that `record` can read.
READABLE = f"status IN ({', '.join(repr(status.value) for status in Status)})"


def record(row: Mapping[str, Any]) -> JobRecord:
    """Return the record of a row by its columns. Raises Unreadable if this version does not know its status."""
    return record_of([row[name] for name in COLUMNS])


def record_of(values: Sequence[Any]) -> JobRecord:
    """Return the record of the values of COLUMNS, in their order. Raises Unreadable like `record`."""
    identity, task, status, *others = values
    if (known := _STATUS.get(status)) is None:
        raise set_aside(f"the status of job {identity}, {status!r},")
    return JobRecord(identity, task, known, *others)


def records(rows: Iterable[Mapping[str, Any]]) -> list[JobRecord]:
    """Return the records of the rows that this version can read."""
    return records_of([row[name] for name in COLUMNS] for row in rows)


def records_of(rows: Iterable[Sequence[Any]]) -> list[JobRecord]:
    """The same of rows that are the values of COLUMNS."""
    found = []
    for row in rows:
        with suppress(Unreadable):
            found.append(record_of(row))
    return found


def insert(job: JobRecord) -> Statement:
    return _INSERT, job


def event(job_id: str, number: int, name: str, data: Mapping[str, Any], now: str) -> Statement:
    return (
        "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, ?, ?, ?, ?)",
        (job_id, number, name, json.dumps(data), now),  # in ASCII: half a surrogate pair cannot be stored otherwise
    )


def attempt(job: JobRecord, now: str, outcome: str, error: str | None, traceback: str | None = None) -> Statement:
    return (
        "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome, error, traceback) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job.id, job.attempt, job.started_at, now, outcome, error, traceback),
    )
