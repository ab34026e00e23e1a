"""How much the jobs of each owner take up: counters that change in the transactions that change the jobs.

Jobs without an owner count as one owner's, under the empty name. Bytes are those of the texts that are stored for a job: its
row, its events and its callbacks. They count until the job expires. The answers that are kept for the owner's Idempotency-Keys
count too, each until it is deleted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..db.group_commit import Statement, Unit
from ..errors import QueueFull, QuotaExceeded, ServiceError

UNFINISHED_RETRY_SECONDS = 5  # after which one of a key's many jobs may well have ended
KEPT_RETRY_SECONDS = 60  # after which some may have expired


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that one owner may have; 0: no limit."""

    unfinished: int = 0
    jobs: int = 0
    size: int = 0


NO_QUOTA = Quota()


def size_of(statements: Iterable[Statement]) -> int:
    """The bytes of the texts that these statements store."""
    return sum(len(value.encode()) for _, values in statements for value in values if isinstance(value, str))


def refusal(owner: str | None, queue_limit: int, quota: Quota, size: int) -> Unit[ServiceError | None]:
    """Why a job of `size` bytes cannot be taken, if so."""
    unfinished = yield ("SELECT SUM(unfinished) AS n FROM job_usage", ())
    if (in_all := unfinished.rows[0]["n"] or 0) >= queue_limit:
        running = yield ("SELECT COUNT(*) AS n FROM jobs WHERE status = 'running'", ())
        if in_all - running.rows[0]["n"] >= queue_limit:
            return QueueFull(f"{queue_limit} jobs are queued already")
    used = yield ("SELECT unfinished, jobs, bytes FROM job_usage WHERE owner = ?", (owner or "",))
    if not used.rows:
        return None
    row, whose = used.rows[0], "this key" if owner is not None else "callers without a key"
    if quota.unfinished and row["unfinished"] >= quota.unfinished:
        detail = f"{quota.unfinished} jobs of {whose} have not ended yet"
        return QuotaExceeded("jobs", detail, UNFINISHED_RETRY_SECONDS)
    if quota.jobs and row["jobs"] >= quota.jobs:
        return QuotaExceeded("kept-jobs", f"{quota.jobs} jobs of {whose} are kept already", KEPT_RETRY_SECONDS)
    return past(quota, owner, row["bytes"], size)


def past(quota: Quota, owner: str | None, used: int, size: int) -> QuotaExceeded | None:
    """Why `size` bytes more than `used` cannot be kept, if so."""
    if not quota.size or used + size <= quota.size:
        return None
    whose = "this key" if owner else "callers without a key"
    detail = f"what is stored for {whose} takes {used} bytes; with {size} more it would pass {quota.size}"
    return QuotaExceeded("kept-bytes", detail, KEPT_RETRY_SECONDS)


def added(owner: str | None, size: int) -> Statement:
    return _change(owner, 1, 1, size)


def answered(owner: str, size: int) -> Statement:
    """An answer of `size` bytes is kept for an Idempotency-Key."""
    return _change(owner, 0, 0, size)


def grown(job_id: str, owner: str | None, size: int, *, ended: bool = False) -> Unit[None]:
    """A job that is kept takes `size` bytes more, or has also `ended`."""
    yield ("UPDATE jobs SET bytes = bytes + ? WHERE id = ?", (size, job_id))
    yield _change(owner, -1 if ended else 0, 0, size)


def weighed(part: Unit[None]) -> Unit[int]:
    """Run a part of a unit; the bytes of the texts that it inserts."""
    size = 0
    try:
        statement = next(part)
        while True:
            if statement[0].startswith("INSERT"):
                size += size_of((statement,))
            statement = part.send((yield statement))
    except StopIteration:
        return size


def removed(rows: Iterable[Mapping[str, Any]], *, jobs: int) -> Unit[None]:
    """Rows with `owner` and `bytes` are deleted, each of which was so many `jobs`, that have ended."""
    gone: dict[str | None, tuple[int, int]] = {}
    for row in rows:
        number, size = gone.get(row["owner"], (0, 0))
        gone[row["owner"]] = number + jobs, size + row["bytes"]
    for owner, (number, size) in gone.items():
        yield _change(owner, 0, -number, -size)
        yield ("DELETE FROM job_usage WHERE owner = ? AND jobs <= 0 AND bytes <= 0", (owner or "",))


def _change(owner: str | None, unfinished: int, jobs: int, size: int) -> Statement:
    return (
        "INSERT INTO job_usage (owner, unfinished, jobs, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (owner) DO UPDATE SET "
        "unfinished = job_usage.unfinished + excluded.unfinished, jobs = job_usage.jobs + excluded.jobs, "
        "bytes = job_usage.bytes + excluded.bytes",
        (owner or "", unfinished, jobs, size),
    )
