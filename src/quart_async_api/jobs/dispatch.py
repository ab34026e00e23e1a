"""The port of a job engine: what it adds to the transactions of the store, and the worker that runs what they leave to do."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ..background.loops import Loop
from ..db.group_commit import Unit
from .states import JobRecord


class Dispatch(Protocol):
    """How an engine learns what there is to do: by statements of its own in the store's transactions, and by a signal after.

    An engine that hands out jobs by tickets writes them here. A ticket may outlive its reason: `Runs.take` refuses a job that
    was cancelled, that runs, or that has lost its place to a more urgent one.
    """

    def queued(self, job: JobRecord) -> Unit[None]:
        """What belongs into the transaction in which `job` gets its place in the queue, to run from `job.run_at` on.

        That is when it is submitted, by a caller or by its schedule, before its next attempt, when a worker gives it back or
        dies, and when a slot becomes free for it.
        """

    def cancelled(self, job: JobRecord) -> Unit[None]:
        """What belongs into the transaction that cancels `job` while it is queued, or asks it to stop while it runs."""

    def committed(self, job: JobRecord) -> None:
        """The transaction of `queued` or `cancelled` is committed; `job` is as it was given there."""


class LocalDispatch:
    """For an engine that finds its work in the jobs table. The signal goes to the engine of this process, if it has one."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[JobRecord], None]] = []

    def queued(self, job: JobRecord) -> Unit[None]:
        yield from ()

    def cancelled(self, job: JobRecord) -> Unit[None]:
        yield from ()

    def committed(self, job: JobRecord) -> None:
        for listener in self.listeners:
            listener(job)


class JobEngine(Protocol):
    """Starts the jobs of the store in this process, by the `Runs` that all engines share."""

    @property
    def loops(self) -> Sequence[Loop]:
        """Its background loops, for `/health/ready`."""

    async def start(self) -> None: ...

    async def drain(self, grace: float) -> None:
        """Take no more; give what runs `grace` seconds; give back what is left, as if its attempt had never been."""

    async def stop(self) -> None: ...
