"""The port of a job engine: its statements in the transactions of the store, and the worker that runs the jobs."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ..background.loops import Loop
from ..db.group_commit import Unit
from .states import JobRecord


class Dispatch(Protocol):
    """Notifies an engine of work: by its own statements in the store's transactions, and by a signal after the commit.

    An engine that hands out jobs by tickets writes them here. A ticket may be outdated: `Claims.claim_by_tickets`
    claims no job that is cancelled or running, or that has lost its place to a more urgent one.
    """

    def queued(self, job: JobRecord) -> Unit[None]:
        """Add statements to the transaction that queues `job`, to run from `job.run_at` on.

        A job is queued on submission by a caller or a schedule, before a retry, when its worker returns it or dies, and when
        a slot becomes free for it.
        """

    def cancelled(self, job: JobRecord) -> Unit[None]:
        """Add statements to the transaction that cancels a queued `job`, or requests the cancellation of a running one."""

    def paused(self, job_ids: Sequence[str]) -> Unit[None]:
        """Add statements to the transaction that keeps these queued jobs from workers: their task is paused.

        When it goes on, they are queued again.
        """

    def committed(self, job: JobRecord) -> None:
        """Handle the commit of a transaction of `queued` or `cancelled`, with the same `job`.

        An error is logged, and the caller does not see it. The engine must find the job without this call too.
        """


class LocalDispatch:
    """For an engine that reads the jobs table. Signals the engine of this process, if there is one."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[JobRecord], None]] = []

    def queued(self, job: JobRecord) -> Unit[None]:
        yield from ()

    def cancelled(self, job: JobRecord) -> Unit[None]:
        yield from ()

    def paused(self, job_ids: Sequence[str]) -> Unit[None]:
        yield from ()

    def committed(self, job: JobRecord) -> None:
        for listener in self.listeners:
            listener(job)


class Starter(Protocol):
    """Begins new jobs in this process at once: they are claimed in the transaction that inserts them."""

    def reserve(self, job: JobRecord) -> JobRecord | None:
        """Return `job` as a run of this worker, whose place is kept until `settle`; None if it has to line up."""

    def settle(self, run: JobRecord, *, begins: bool) -> None:
        """Begin the run if it is committed, or give its place back."""


class JobEngine(Protocol):
    """Starts the jobs of the store in this process, through `Runs`."""

    @property
    def loops(self) -> Sequence[Loop]:
        """The background loops, for `/health/ready`."""

    async def start(self) -> None: ...

    async def drain(self, grace: float) -> None:
        """Take no more jobs. Wait `grace` seconds for running ones, then requeue them without counting the attempt.

        This is also called after a failed `start`.
        """

    async def stop(self) -> None: ...
