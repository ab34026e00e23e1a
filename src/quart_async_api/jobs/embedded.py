"""The embedded engine finds its work in the jobs table. Any number of its processes may share one database."""

import asyncio
import time
from contextlib import suppress

from ..background.loops import Loop
from ..background.tasks import BackgroundTasks
from ..db.notifications import Notifications, Wake
from ..errors import DatabaseUnavailable
from ..moments import moment
from .dispatch import LocalDispatch
from .runs import FAREWELL_SECONDS, Runs
from .states import JobRecord, Status
from .wake_ups import WakeUps, cancel

SWEEP_SECONDS = 0.5  # longest delay of other processes' jobs, if their wake-up is lost
TIMER_SECONDS = 3600.0  # a longer delay is left to the sweep


class EmbeddedEngine:
    """Begins jobs as asyncio tasks of this process: those submitted here at once, others after a wake-up or a sweep."""

    def __init__(self, runs: Runs, dispatch: LocalDispatch, notifications: Notifications) -> None:
        self._runs = runs
        self._store = runs.store
        self._notifications = notifications
        self._dispatching = Loop("dispatcher", self._dispatch, every=None)
        self._wake = self._dispatching.wake
        self.loops = (self._dispatching, Loop("sweep for jobs", self._look_for_work, every=SWEEP_SECONDS))
        self._dispatcher: asyncio.Task[None] | None = None
        self._open = True
        self._is_full = False  # there may be ready jobs that this process had no room for
        self._has_new = False  # jobs became ready here since the last look
        self._background = BackgroundTasks()
        dispatch.listeners.append(self._dispatched)
        runs.on_ended = self._run_ended
        runs.presence.on_lost.append(self._wake)
        notifications.on(Wake.WORK, WakeUps(lambda: runs.presence.others, self._wake).heard)
        notifications.on(Wake.CANCEL, lambda ids: [runs.cancel(job_id) for job_id in ids])

    async def start(self) -> None:
        self._background = BackgroundTasks()
        self._runs.start()
        self._store.submission.starter = self
        self._dispatcher, _ = (self._background.spawn(loop.run(), name=loop.name) for loop in self.loops)

    async def drain(self, grace: float) -> None:
        self._open = False
        self._runs.close()
        self._dispatching.end()
        began = time.monotonic()
        if self._dispatcher is not None:  # it gives back the jobs that it claims now
            await asyncio.wait((self._dispatcher,), timeout=max(grace, FAREWELL_SECONDS))
        await self._runs.drain(grace - (time.monotonic() - began))

    async def stop(self) -> None:
        self._open = False
        await self._runs.stop()
        await self._background.close(grace=FAREWELL_SECONDS)

    def reserve(self, job: JobRecord) -> JobRecord | None:
        """Implement Starter: while ready jobs may wait for a free place, new ones line up behind them."""
        return self._runs.reserve(job) if self._open and not self._is_full else None

    def settle(self, run: JobRecord, *, begins: bool) -> None:
        self._runs.settle(run, begins=begins)

    def _dispatched(self, job: JobRecord) -> None:
        if job.status is not Status.QUEUED:
            cancel(job, self._runs, self._notifications)
            return
        wait = (moment(job.run_at) - self._runs.clock()).total_seconds()
        if job.stage != "delayed" or wait <= 0:
            self._has_new = True
            self._wake()
            if not self._open or not self._runs.readiness.includes(job.task):
                self._notifications.tell(Wake.WORK)
        elif wait < TIMER_SECONDS:
            # With no more than it needs: neither the arguments, nor the context of the request that submits the job.
            context = self._background.context()
            asyncio.get_running_loop().call_later(
                wait, self._come_due, job.id, job.run_at, job.attempt, context=context
            )

    def _come_due(self, job_id: str, run_at: str, attempts: int) -> None:
        self._wake()
        # A clock that is set back does not prolong the delay of a retry. A caller's `run_at` is a moment.
        if self._open and attempts and self._runs.now() < run_at:
            self._background.spawn(self._hasten(job_id, run_at), name=f"retry of job {job_id}")

    async def _hasten(self, job_id: str, run_at: str) -> None:
        with suppress(DatabaseUnavailable):
            await self._store.transitions.hasten(job_id, run_at, self._runs.now())
        self._wake()

    def _run_ended(self) -> None:
        if self._is_full:
            self._wake()

    async def _dispatch(self) -> None:
        self._is_full, has_new, self._has_new = True, self._has_new, False
        while self._open and (free := self._runs.free) > 0:
            if await self._runs.claim(free) < free:
                self._is_full = False
                return
        if has_new:
            self._notifications.tell(Wake.WORK)

    async def _look_for_work(self) -> None:
        if await self._store.reading.is_due(self._runs.readiness.tasks, self._runs.now()):
            self._wake()
