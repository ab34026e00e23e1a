"""Inserts the new jobs of callers and of schedules."""

from collections.abc import Callable, Sequence

from ..db.group_commit import Unit
from ..errors import KeyTaken, ServiceError
from . import queue, sql, usage
from .states import JobRecord
from .units import Changes, JobUnits
from .usage import NO_QUOTA, Quota


class Submission:
    def __init__(self, units: JobUnits) -> None:
        self._units = units

    async def insert(
        self,
        job: JobRecord,
        queue_limit: int,
        *,
        quota: Quota = NO_QUOTA,
        key: tuple[int, Callable[[], Unit[bool]]] | None = None,
    ) -> None:
        """Insert the job, and store its Idempotency-Key in the same transaction: `key` is its size in bytes and its unit.

        Raises KeyTaken if that unit returns False, QueueFull if `queue_limit` jobs are already queued, and QuotaExceeded if
        its owner would have more than `quota`. Nothing is written then.
        """

        def unit(changes: Changes) -> "Unit[ServiceError | None]":
            # Returned, not raised: nothing is written yet, and an exception would fail the rest of the batch.
            size = usage.size_of((sql.insert(job),)) + (key[0] if key else 0)
            refusal = yield from usage.refusal(job.owner, queue_limit, quota, size)
            if refusal is not None:
                return refusal
            if key is not None and not (yield from key[1]()):
                return KeyTaken()
            yield from _add(job, changes)
            return None

        if (refusal := await self._units.run(unit)) is not None:
            raise refusal

    async def tick(self, task: str, tick: str, job: JobRecord) -> bool:
        """Insert the job of a schedule's tick. Return False if a process has already done so."""

        def unit(changes: Changes) -> "Unit[bool]":
            first = yield (
                "INSERT INTO schedule_ticks (task, tick) VALUES (?, ?) ON CONFLICT (task, tick) DO NOTHING",
                (task, tick),
            )
            if first.count < 1:
                return False
            yield from _add(job, changes)
            return True

        return await self._units.run(unit)

    async def forget_ticks(self, tasks: Sequence[str], after: str) -> None:
        """Delete the ticks after that time: a clock that was ahead has fired them too early."""
        marks = ", ".join("?" for _ in tasks)

        def unit(changes: Changes) -> "Unit[None]":
            yield (f"DELETE FROM schedule_ticks WHERE task IN ({marks}) AND tick > ?", (*tasks, after))

        await self._units.run(unit)


def _add(job: JobRecord, changes: Changes) -> Unit[None]:
    size = usage.size_of((sql.insert(job),))
    job = (yield from queue.line_up(job))._replace(bytes=size)
    yield sql.insert(job)
    yield usage.added(job.owner, size)
    yield from changes.queued(job)
