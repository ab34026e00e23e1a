"""Inserts the new jobs of callers and of schedules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..db.group_commit import Unit, in_step
from ..errors import KeyTaken, ServiceError
from . import pauses, queue, sql, usage, workers
from .states import JobRecord
from .units import Changes, JobUnits
from .usage import NO_QUOTA, Quota

if TYPE_CHECKING:
    from .dispatch import Starter


@dataclass(slots=True)
class New:
    """A new job and its limits. `run`: how it begins at once, if no other job waits."""

    job: JobRecord
    queue_limit: int
    quota: Quota
    key: tuple[int, Callable[[], Unit[bool]]] | None = None
    run: JobRecord | None = None
    begins: bool = False


class Submission:
    """Inserts new jobs. `starter` is the engine of this process, if it begins them at once.

    Each of `on_inserted` is called with a job that is committed, and must not raise.
    """

    def __init__(self, units: JobUnits) -> None:
        self._units = units
        self.starter: Starter | None = None
        self.on_inserted: list[Callable[[JobRecord], None]] = []

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

        starter = self.starter
        run = None if starter is None else starter.reserve(job)
        new = New(job, queue_limit, quota, key, run)

        def settled(is_committed: bool) -> None:
            if starter is not None and run is not None:
                starter.settle(run, begins=is_committed and new.begins)

        if (refusal := await self._units.together(insert_all, new, settled)) is not None:
            raise refusal
        self.inserted(job)

    async def insert_within(self, news: Sequence[New]) -> Callable[[], None]:
        """Insert these jobs as the last part of the transaction that this task has open. Return what to call after its commit.

        Raises as `insert` does: then roll back.
        """
        refusals, settled = await self._units.within(insert_all, news)
        for refusal in refusals:
            if refusal is not None:
                raise refusal

        def committed() -> None:
            settled()
            for new in news:
                self.inserted(new.job)

        return committed

    def inserted(self, job: JobRecord) -> None:
        """Tell the listeners of a job that is committed."""
        for listener in self.on_inserted:
            listener(job)

    async def tick(self, task: str, tick: str, job: JobRecord) -> bool:
        """Insert the job of a schedule's tick. Return False if a process has already done so, or the task is paused."""

        def unit(changes: Changes) -> "Unit[bool]":
            if not (yield from pauses.state_of(task)).may_fire(tick):
                return False
            first = yield (
                "INSERT INTO schedule_ticks (task, tick) VALUES (?, ?) ON CONFLICT (task, tick) DO NOTHING",
                (task, tick),
            )
            if first.count < 1:
                return False
            yield from _add(job, usage.size_of((sql.insert(job),)), changes)
            yield from pauses.started(task, job.created_at)
            return True

        if is_first := await self._units.run(unit):
            self.inserted(job)
        return is_first

    async def forget_ticks(self, tasks: Sequence[str], after: str) -> None:
        """Delete the ticks after that time: a clock that was ahead has fired them too early."""
        marks = ", ".join("?" for _ in tasks)

        def unit(changes: Changes) -> "Unit[None]":
            yield (f"DELETE FROM schedule_ticks WHERE task IN ({marks}) AND tick > ?", (*tasks, after))

        await self._units.run(unit)


def insert_all(items: list[tuple[Changes, New]]) -> Unit[list[ServiceError | None]]:
    """Insert jobs. Return for each why it was refused, or None."""
    totals = usage.Totals()
    yield from _decide(items)
    yield from totals.read(new.job.owner for _, new in items)
    refusals = yield from in_step(totals.of(_insert_one(changes, new)) for changes, new in items)
    accepted = [new for (_, new), refusal in zip(items, refusals, strict=True) if refusal is None]
    yield from totals.write()
    if accepted:
        yield totals.within(min(new.queue_limit for new in accepted), len(accepted))
        for owner, quota in {new.job.owner: new.quota for new in accepted}.items():
            yield usage.within(owner, quota)
    return refusals


def _decide(items: list[tuple[Changes, New]]) -> Unit[None]:
    """Note which jobs begin at once: the first that can, as long as no other waits."""
    nobody_waits: bool | None = None  # until the first that could begin at once
    for changes, new in items:
        changes.begin()
        run = new.run
        if run is not None and nobody_waits is None:
            nobody_waits = (yield from workers.is_listed(run.worker or "")) and (yield from queue.is_empty(run.run_at))
        new.begins = run is not None and nobody_waits is True
        if not new.begins:
            nobody_waits = False


def _insert_one(changes: Changes, new: New) -> Unit[ServiceError | None]:
    # Errors are returned, not raised: nothing is written yet, and an exception would fail the rest of the batch.
    job, key = new.job, new.key
    size = usage.size_of((sql.insert(job),))
    refusal = yield from usage.refusal(job.owner, new.queue_limit, new.quota, size + (key[0] if key else 0))
    if refusal is not None:
        return refusal
    if key is not None and not (yield from key[1]()):
        return KeyTaken()
    yield from _add(job, size, changes, new.run if new.begins else None)
    return None


def _add(job: JobRecord, size: int, changes: Changes, run: JobRecord | None = None) -> Unit[None]:
    """Insert a job of `size` bytes in its place of the queue, or as its first `run`."""
    job = (run or (yield from queue.line_up(job)))._replace(bytes=size)
    yield queue.insert(job)
    yield usage.added(job.owner, size)
    if run is None:
        yield from changes.queued(job)
