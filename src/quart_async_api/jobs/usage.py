"""Number and bytes of the jobs of each owner: counters that change in the same transaction as the jobs.

Jobs without an owner share one counter, under the empty name. Bytes count the stored texts of a job: its row, its events and
its callbacks, until the job expires. Stored responses to Idempotency-Keys count too, until they are deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, TypeVar

from ..db.group_commit import AtEnd, Crossed, Hold, Late, Result, Rows, Statement, Sum, Unit, in_step, one
from ..errors import QueueFull, QuotaExceeded, ServiceError

T = TypeVar("T")

UNFINISHED_RETRY_SECONDS = 5  # a job of the key may end in this time
KEPT_RETRY_SECONDS = 60  # a job of the key may expire in this time
MOST = 200  # transactions that add jobs at one time: one for each process


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
_RUNNING = ("SELECT COUNT(*) AS n FROM jobs WHERE status = 'running'", ())


def size_of(statements: Iterable[Statement]) -> int:
    """Return the bytes of the texts in these statements."""
    text = "".join([value for _, values in statements for value in values if isinstance(value, str)])
    return len(text) if text.isascii() else len(text.encode())


def refusal(owner: str | None, queue_limit: int, quota: Quota, size: int) -> Unit[ServiceError | None]:
    """Return the error that refuses a job of `size` bytes, or None."""
    used = yield (_USED, (owner or "",))
    [row] = used.rows
    if (in_all := row["in_all"] or 0) >= queue_limit:
        running = yield _RUNNING
        if in_all - running.rows[0]["n"] >= queue_limit:
            return QueueFull(f"{queue_limit} jobs are already queued")
    return None if row["jobs"] is None else _refusal(owner or "", row, quota, 1, size)


def _refusal(owner: str, used: Mapping[str, int], quota: Quota, new: int, size: int) -> QuotaExceeded | None:
    """Return the error that refuses `new` jobs of `size` bytes more than what is used."""
    whose = "this key" if owner else "callers without a key"
    if quota.unfinished and used["unfinished"] + new > quota.unfinished:
        detail = f"{quota.unfinished} jobs of {whose} have not ended yet"
        return QuotaExceeded("jobs", detail, UNFINISHED_RETRY_SECONDS)
    if quota.jobs and used["jobs"] + new > quota.jobs:
        return QuotaExceeded("kept-jobs", f"{quota.jobs} jobs of {whose} are already stored", KEPT_RETRY_SECONDS)
    return past(quota, owner, used["bytes"], size)


def past(quota: Quota, owner: str | None, used: int, size: int) -> QuotaExceeded | None:
    """Return the error that refuses `size` bytes more than `used`, or None."""
    if not quota.size or used + size <= quota.size:
        return None
    whose = "this key" if owner else "callers without a key"
    detail = f"the stored data of {whose} has {used} bytes; {size} more would exceed {quota.size}"
    return QuotaExceeded("kept-bytes", detail, KEPT_RETRY_SECONDS)


def added(owner: str | None, size: int) -> Sum:
    return _change(owner, 1, 1, size)


def answered(owner: str, size: int) -> Sum:
    """Count a stored response of `size` bytes to an Idempotency-Key."""
    return _change(owner, 0, 0, size)


def grown(job_id: str, owner: str | None, size: int, *, ended: bool = False) -> Unit[None]:
    """Count `size` more bytes of a stored job, and its end if it has `ended`."""
    yield grown_row(job_id, size)
    yield _change(owner, -1 if ended else 0, 0, size)


def grown_row(job_id: str, size: int) -> Statement:
    return "UPDATE jobs SET bytes = bytes + ? WHERE id = ?", (size, job_id)


def ended(owner: str | None, size: int) -> Sum:
    """Count the end of a job, and `size` more bytes that its row counts already."""
    return _change(owner, -1, 0, size)


def weighed(part: Unit[None]) -> Unit[int]:
    """Run a part of a unit. Return the bytes of the texts that it inserts."""
    size = 0
    try:
        statement = next(part)
        while True:
            if isinstance(statement, tuple) and statement[0].startswith("INSERT"):
                size += size_of((statement,))
            statement = part.send((yield statement))
    except StopIteration:
        return size


class Totals:
    """The counters as the parts of a unit change them: read once, read as changed, and written once for each owner."""

    def __init__(self) -> None:
        self._changed: dict[str, list[int]] = {}
        self._read: dict[str, Rows] = {}

    def read(self, owners: Iterable[str | None]) -> Unit[None]:
        names = sorted({owner or "" for owner in owners})
        found = yield from in_step(one((_USED, (name,))) for name in names)
        self._read = {name: used.rows for name, used in zip(names, found, strict=True)}

    def of(self, part: Unit[T]) -> Unit[T]:
        """Run a part of the unit."""
        try:
            step = next(part)
            while True:
                if isinstance(step, Sum):
                    owner, *more = step.values
                    self._changed[owner] = list(map(add, self._changed.get(owner, (0, 0, 0)), more))
                    step = part.send(Result(1, []))
                elif isinstance(step, tuple) and step[0] == _USED:
                    owner = step[1][0]
                    step = part.send(Result(1, [_with(row, self._changed, owner) for row in self._read[owner]]))
                else:
                    step = part.send((yield step))
        except StopIteration as end:
            outcome: T = end.value
            return outcome

    def write(self) -> Unit[None]:
        for owner in sorted(self._changed):
            yield Sum(_CHANGE, (owner, *self._changed[owner]))

    def within(self, queue_limit: int, new: int) -> AtEnd:
        """Check at the end of the batch that the queue is within its limit with `new` jobs.

        It is over all rows. So transactions that add few jobs, far from the limit, go on together: MOST of them cannot pass it.
        One that adds many, or is near the limit, waits until no other adds any.
        """
        in_all = max((row["in_all"] or 0 for [row] in self._read.values()), default=0)
        are_few = 2 * MOST * new <= queue_limit and 2 * in_all <= queue_limit

        def check() -> Unit[None]:
            counted = yield ("SELECT SUM(unfinished) AS unfinished FROM job_usage", ())
            [row] = counted.rows
            if are_few and 2 * row["unfinished"] > queue_limit + 2 * new:
                raise Crossed("many jobs were queued meanwhile")
            if not are_few and row["unfinished"] > queue_limit:
                running = yield _RUNNING
                if row["unfinished"] - running.rows[0]["n"] > queue_limit:
                    raise QueueFull(f"{queue_limit} jobs are already queued")

        return AtEnd(check, Hold("queue", shared=are_few))


def within(owner: str | None, quota: Quota) -> AtEnd:
    """Check at the end of the batch that what `owner` has is within `quota`.

    What other transactions had not committed, the first check did not see. This one comes after the row was written, which
    waits for them.
    """

    def check() -> Unit[None]:
        if quota != NO_QUOTA:
            used = yield ("SELECT unfinished, jobs, bytes FROM job_usage WHERE owner = ?", (owner or "",))
            if used.rows and (refused := _refusal(owner or "", used.rows[0], quota, 0, 0)) is not None:
                raise refused

    return AtEnd(check)


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
        yield Late("DELETE FROM job_usage WHERE owner = ? AND jobs <= 0 AND bytes <= 0", (owner or "",))


def _change(owner: str | None, unfinished: int, jobs: int, size: int) -> Sum:
    return Sum(_CHANGE, (owner or "", unfinished, jobs, size))
