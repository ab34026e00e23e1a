"""Number and bytes of the jobs of each owner: counters that change in the same transaction as the jobs.

Jobs without an owner share one counter, under the empty name. Bytes count the stored texts of a job: its row, its events and
its callbacks, until the job expires. Stored responses to Idempotency-Keys count too, until they are deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..db.group_commit import Result, Rows, Statement, Unit
from ..errors import QueueFull, QuotaExceeded, ServiceError

T = TypeVar("T")

UNFINISHED_RETRY_SECONDS = 5  # a job of the key may end in this time
KEPT_RETRY_SECONDS = 60  # a job of the key may expire in this time


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one owner; 0: no limit."""

    unfinished: int = 0
    jobs: int = 0
    size: int = 0


NO_QUOTA = Quota()

# In one row: what all owners have, and what one has. It reads a row for each owner, which is an API key.
_USED = (
    "SELECT unfinished.n AS in_all, mine.unfinished, mine.jobs, mine.bytes "
    "FROM (SELECT SUM(unfinished) AS n FROM job_usage) AS unfinished "
    "LEFT JOIN job_usage AS mine ON mine.owner = ?"
)

_CHANGE = (
    "INSERT INTO job_usage (owner, unfinished, jobs, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (owner) DO UPDATE SET "
    "unfinished = job_usage.unfinished + excluded.unfinished, jobs = job_usage.jobs + excluded.jobs, "
    "bytes = job_usage.bytes + excluded.bytes"
)


def size_of(statements: Iterable[Statement]) -> int:
    """Return the bytes of the texts in these statements."""
    text = "".join([value for _, values in statements for value in values if isinstance(value, str)])
    return len(text) if text.isascii() else len(text.encode())


def refusal(owner: str | None, queue_limit: int, quota: Quota, size: int) -> Unit[ServiceError | None]:
    """Return the error that refuses a job of `size` bytes, or None."""
    used = yield (_USED, (owner or "",))
    [row] = used.rows
    if (in_all := row["in_all"] or 0) >= queue_limit:
        running = yield ("SELECT COUNT(*) AS n FROM jobs WHERE status = 'running'", ())
        if in_all - running.rows[0]["n"] >= queue_limit:
            return QueueFull(f"{queue_limit} jobs are already queued")
    if row["jobs"] is None:
        return None
    whose = "this key" if owner is not None else "callers without a key"
    if quota.unfinished and row["unfinished"] >= quota.unfinished:
        detail = f"{quota.unfinished} jobs of {whose} have not ended yet"
        return QuotaExceeded("jobs", detail, UNFINISHED_RETRY_SECONDS)
    if quota.jobs and row["jobs"] >= quota.jobs:
        return QuotaExceeded("kept-jobs", f"{quota.jobs} jobs of {whose} are already stored", KEPT_RETRY_SECONDS)
    return past(quota, owner, row["bytes"], size)


def past(quota: Quota, owner: str | None, used: int, size: int) -> QuotaExceeded | None:
    """Return the error that refuses `size` bytes more than `used`, or None."""
    if not quota.size or used + size <= quota.size:
        return None
    whose = "this key" if owner else "callers without a key"
    detail = f"the stored data of {whose} has {used} bytes; {size} more would exceed {quota.size}"
    return QuotaExceeded("kept-bytes", detail, KEPT_RETRY_SECONDS)


def added(owner: str | None, size: int) -> Statement:
    return _change(owner, 1, 1, size)


def answered(owner: str, size: int) -> Statement:
    """Count a stored response of `size` bytes to an Idempotency-Key."""
    return _change(owner, 0, 0, size)


def grown(job_id: str, owner: str | None, size: int, *, ended: bool = False) -> Unit[None]:
    """Count `size` more bytes of a stored job, and its end if it has `ended`."""
    yield grown_row(job_id, size)
    yield _change(owner, -1 if ended else 0, 0, size)


def grown_row(job_id: str, size: int) -> Statement:
    return "UPDATE jobs SET bytes = bytes + ? WHERE id = ?", (size, job_id)


def ended(owner: str | None, size: int) -> Statement:
    """Count the end of a job, and `size` more bytes that its row counts already."""
    return _change(owner, -1, 0, size)


def weighed(part: Unit[None]) -> Unit[int]:
    """Run a part of a unit. Return the bytes of the texts that it inserts."""
    size = 0
    try:
        statement = next(part)
        while True:
            if statement[0].startswith("INSERT"):
                size += size_of((statement,))
            statement = part.send((yield statement))
    except StopIteration:
        return size


def merged(part: Unit[T]) -> Unit[T]:
    """Run a part of a unit, and change the counters of each owner once, at its end. Until then it reads them as changed."""
    changed: dict[str, list[int]] = {}
    read: dict[str, Rows] = {}
    try:
        statement = next(part)
        while True:
            sql, values = statement
            if sql == _CHANGE:
                so_far = changed.setdefault(values[0], [0, 0, 0])
                changed[values[0]] = [old + new for old, new in zip(so_far, values[1:], strict=True)]
                statement = part.send(Result(1, []))
            elif sql == _USED:
                owner = values[0]
                if owner not in read:
                    read[owner] = (yield statement).rows
                statement = part.send(Result(1, [_with(row, changed, owner) for row in read[owner]]))
            else:
                statement = part.send((yield statement))
    except StopIteration as end:
        outcome: T = end.value
    for owner in sorted(changed):
        yield (_CHANGE, (owner, *changed[owner]))
    return outcome


def _with(row: dict[str, Any], changed: Mapping[str, Sequence[int]], owner: str) -> dict[str, Any]:
    """Return a row of _USED with changes that are not written yet."""
    in_all = (row["in_all"] or 0) + sum(unfinished for unfinished, _, _ in changed.values())
    if owner not in changed:
        return row | {"in_all": in_all}
    names = ("unfinished", "jobs", "bytes")
    mine = {name: (row[name] or 0) + more for name, more in zip(names, changed[owner], strict=True)}
    return {"in_all": in_all, **mine}


def removed(rows: Iterable[Mapping[str, Any]], *, jobs: int) -> Unit[None]:
    """Subtract deleted rows, which have `owner` and `bytes`. Each was so many ended `jobs` (0 or 1)."""
    gone: dict[str | None, tuple[int, int]] = {}
    for row in rows:
        number, size = gone.get(row["owner"], (0, 0))
        gone[row["owner"]] = number + jobs, size + row["bytes"]
    for owner, (number, size) in gone.items():
        yield _change(owner, 0, -number, -size)
        yield ("DELETE FROM job_usage WHERE owner = ? AND jobs <= 0 AND bytes <= 0", (owner or "",))


def _change(owner: str | None, unfinished: int, jobs: int, size: int) -> Statement:
    return _CHANGE, (owner or "", unfinished, jobs, size)
