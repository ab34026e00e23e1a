"""The rows of a job: its record as read, and the statements that write it and what happens to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ..db.group_commit import Statement
from .states import ARGS_SHOWN_BYTES, LEFT_OUT, RESULT_SHOWN_BYTES, JobRecord, Status, set_aside

COLUMNS = tuple(JobRecord.__dataclass_fields__)
ALL = ", ".join(COLUMNS)
_MOST = {"args": ARGS_SHOWN_BYTES, "result": RESULT_SHOWN_BYTES}
# The same for a list: what is too long for it is not even read.
LISTED = ", ".join(
    f"CASE WHEN LENGTH({name}) > {_MOST[name]} THEN '{LEFT_OUT}' ELSE {name} END AS {name}" if name in _MOST else name
    for name in COLUMNS
)


def record(row: Mapping[str, Any]) -> JobRecord:
    return JobRecord(**{**row, "status": Status(row["status"])})


def records(rows: Iterable[Mapping[str, Any]]) -> list[JobRecord]:
    """The records of those rows that this version can read."""
    found = []
    for row in rows:
        try:
            found.append(record(row))
        except ValueError:
            set_aside(f"job {row['id']} of status {row['status']!r}")
    return found


def insert(job: JobRecord) -> Statement:
    values = asdict(job)
    return f"INSERT INTO jobs ({ALL}) VALUES ({', '.join('?' for _ in COLUMNS)})", [values[name] for name in COLUMNS]


def event(job_id: str, number: int, name: str, data: Mapping[str, Any], now: str) -> Statement:
    return (
        "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, ?, ?, ?, ?)",
        (job_id, number, name, json.dumps(data), now),  # in ASCII: half a surrogate pair cannot be stored otherwise
    )


def attempt(job: JobRecord, now: str, outcome: str, error: str | None) -> Statement:
    return (
        "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome, error) VALUES (?, ?, ?, ?, ?, ?)",
        (job.id, job.attempt, job.started_at, now, outcome, error),
    )
