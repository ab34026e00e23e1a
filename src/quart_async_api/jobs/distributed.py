"""The distributed engine: processes on any hosts take the tickets of queued jobs, rows in a table of procrastinate.

The jobs table stays the truth: a ticket only says which job to look at. `Presence` and the run tokens are those of any engine.
"""

import asyncio
import time

from ..background.loops import Loop
from ..background.tasks import BackgroundTasks
from ..db.notifications import Notifications, Wake
from ..moments import moment
from . import tickets
from .reconciler import Reconciler
from .runs import FAREWELL_SECONDS, Runs
from .states import JobRecord, Status
from .wake_ups import WakeUps, cancel

POLL_SECONDS = 0.5  # longest delay of a job whose wake-up is lost
TIMER_SECONDS = 3600.0  # a longer delay is left to the poll
BATCH = 25  # tickets that a process takes at once: other processes may take some in between


class DistributedEngine:
    """Runs the jobs of this process's tasks, by the tickets of their queues."""

    def __init__(self, runs: Runs, dispatch: tickets.DistributedDispatch, notifications: Notifications) -> None:
        self._runs = runs
        self._notifications = notifications
        self._taking = Loop("dispatcher", self._take, every=POLL_SECONDS)
        self._wake = self._taking.wake
        self._reconciler = Reconciler(runs.store.database, lambda: runs.presence.others, self._has_news)
        self.loops = (self._taking, self._reconciler.loop)
        self._taker: asyncio.Task[None] | None = None
        self._open = True
        self._is_full = False  # there may be tickets that this process had no room for
        self._background = BackgroundTasks()
        dispatch.listeners.append(self._dispatched)
        runs.on_ended = self._run_ended
        runs.presence.on_lost.append(self._wake)
        runs.presence.on_buried.append(lambda _: self._reconciler.hurry())
        notifications.on(Wake.WORK, WakeUps(lambda: runs.presence.others, self._wake).heard)
        notifications.on(Wake.DEATH, lambda _: self._reconciler.hurry())
        notifications.on(Wake.CANCEL, lambda ids: [runs.cancel(job_id) for job_id in ids])

    async def start(self) -> None:
        self._background = BackgroundTasks()
        self._runs.start()
        self._taker, _ = (self._background.spawn(loop.run(), name=loop.name) for loop in self.loops)

    async def drain(self, grace: float) -> None:
        self._open = False
        self._runs.close()
        self._taking.end()
        began = time.monotonic()
        if self._taker is not None:  # it gives back the jobs that it claims now
            await asyncio.wait((self._taker,), timeout=max(grace, FAREWELL_SECONDS))
        await self._runs.drain(grace - (time.monotonic() - began))

    async def stop(self) -> None:
        self._open = False
        await self._runs.stop()
        await self._background.close(grace=FAREWELL_SECONDS)

    def _dispatched(self, job: JobRecord) -> None:
        if job.status is not Status.QUEUED:
            cancel(job, self._runs, self._notifications)
            return
        wait = (moment(job.run_at) - self._runs.clock()).total_seconds()
        if job.stage == "ready" or wait <= 0:
            self._has_news()
        elif wait < TIMER_SECONDS:
            asyncio.get_running_loop().call_later(wait, self._wake, context=self._background.context())

    def _has_news(self) -> None:
        self._wake()
        self._notifications.tell(Wake.WORK)

    def _run_ended(self) -> None:
        if self._is_full:
            self._wake()

    async def _take(self) -> None:
        """Begin jobs by tickets, as long as there are some and this process has room."""
        self._is_full = True
        while self._open and (room := min(self._runs.free, BATCH)) > 0:
            taken, begun = await self._runs.take_tickets(room, tickets.take, tickets.exchange)
            if begun < taken:  # there are new tickets of jobs that others have locked just now
                asyncio.get_running_loop().call_later(tickets.PUT_BACK_SECONDS, self._wake)
            if taken < room:
                self._is_full = False
                return
