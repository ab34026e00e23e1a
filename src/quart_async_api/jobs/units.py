"""Units of the store: each changes jobs in one transaction with the statements of engine and outbox, then sends signals."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..db.group_commit import GroupCommit, Settled, Unit, in_step
from ..db.within import run_within
from .dispatch import Dispatch
from .outbox import Outbox
from .states import JobRecord
from .usage import Totals

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")


class Changes:
    """The changes of one unit. The signals wait for its commit."""

    def __init__(self, outbox: Outbox, dispatch: Dispatch) -> None:
        self._outbox = outbox
        self._dispatch = dispatch
        self.also: Settled | None = None
        self.begin()

    def begin(self) -> None:
        """Forget all: a unit runs again if its batch fails."""
        self._dispatched: list[JobRecord] = []
        self._called_back = False

    def queued(self, job: JobRecord) -> Unit[None]:
        """Let the engine add its statements for a queued job."""
        self._dispatched.append(job)
        yield from self._dispatch.queued(job)

    def cancelled(self, job: JobRecord) -> Unit[None]:
        """Let the engine add its statements for a job that is cancelled, or requested to stop."""
        self._dispatched.append(job)
        yield from self._dispatch.cancelled(job)

    def paused(self, job_ids: Sequence[str]) -> Unit[None]:
        """Let the engine add its statements for queued jobs whose task is paused."""
        yield from self._dispatch.paused(job_ids)

    def told(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """Let the outbox add the callbacks for an event of the job."""
        self._called_back = self._called_back or job.callback_url is not None
        yield from self._outbox.tell(job, event, now)

    def settled(self, is_committed: bool) -> None:
        """After the commit, send all signals, and log their errors: the caller must not get one."""
        if is_committed:
            if self._called_back:
                _send(self._outbox.committed)
            for job in self._dispatched:
                _send(self._dispatch.committed, job)
        if self.also is not None:
            self.also(is_committed)


def _send(signal: Callable[..., None], *about: JobRecord) -> None:
    try:
        signal(*about)
    except Exception:
        log.exception("the signal of a committed change failed%s", "".join(f": job {job.id}" for job in about))


Part = Callable[[Changes], Unit[T]]


def kind(part: Callable[[Changes, Item], Unit[T]]) -> Callable[[list[tuple[Changes, Item]]], Unit[list[T]]]:
    """Return a unit for `JobUnits.together`: `part` for each item, in step, with one change of each counter."""

    def begun(changes: Changes, item: Item) -> Unit[T]:
        changes.begin()
        return (yield from part(changes, item))

    def each(items: list[tuple[Changes, Item]]) -> Unit[list[T]]:
        totals = Totals()
        outcomes = yield from in_step(totals.of(begun(changes, item)) for changes, item in items)
        yield from totals.write()
        return outcomes

    return each


class JobUnits:
    """Runs units that change jobs, and sends their signals when they are committed."""

    def __init__(self, commits: GroupCommit, outbox: Outbox, dispatch: Dispatch) -> None:
        self._commits = commits
        self._outbox = outbox
        self._dispatch = dispatch

    async def run(self, unit: Callable[[Changes], Unit[T]]) -> T:
        """Run a unit. Raises DatabaseUnavailable, or the exception of the unit."""
        changes = Changes(self._outbox, self._dispatch)

        # Functions inside others have their annotations as text, which costs nothing in each call.
        def make() -> "Unit[T]":
            changes.begin()
            return unit(changes)

        return await self._commits.run(make, changes.settled)

    async def step(self, kind: Callable[[list[tuple[Changes, Part[Any]]]], Unit[list[Any]]], unit: Part[T]) -> T:
        """Run a unit in step with all of its kind that wait."""
        outcome: T = await self.together(kind, unit)
        return outcome

    async def within(
        self, unit: Callable[[list[tuple[Changes, Item]]], Unit[list[T]]], items: Sequence[Item]
    ) -> tuple[list[T], Callable[[], None]]:
        """Do the same in the transaction that this task has open. Return the results, and what to call after its commit."""
        changes = [Changes(self._outbox, self._dispatch) for _ in items]
        outcomes = await run_within(self._commits.database, lambda: unit(list(zip(changes, items, strict=True))))

        def committed() -> None:
            for each in changes:
                each.settled(is_committed=True)

        return outcomes, committed

    async def together(
        self,
        unit: Callable[[list[tuple[Changes, Item]]], Unit[list[T]]],
        item: Item,
        settled: Settled | None = None,
    ) -> T:
        """Run a unit once for the items of all callers that wait, each with its changes. It returns a result for each.

        `settled` is called after the signals, as by GroupCommit.
        """
        changes = Changes(self._outbox, self._dispatch)
        changes.also = settled
        return await self._commits.together(unit, (changes, item), changes.settled)
