"""Live events of jobs: one reader of the table for all watchers, each with a bounded queue."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..background.loops import Loop
from ..background.tasks import BackgroundTasks
from ..db.notifications import Notifications, Wake
from .history import Event, History, NewEvents
from .states import JobRecord, Status

QUEUE = 256  # events a watcher may be behind before it must start over
PING_SECONDS = 1.0  # between looks for quiet streams
BEHIND_SECONDS = 0.05  # between looks for what other transactions hold up
POLL_SECONDS = 0.5  # longest delay of another process's event, if its wake-up is lost


class _Listener:
    """Waits until the feed wakes it. It has no timer and no queue while nothing happens: there may be thousands."""

    __slots__ = ("_is_woken", "_since", "_waiting")

    def __init__(self) -> None:
        self._is_woken = False
        self._waiting: asyncio.Future[bool] | None = None
        self._since = 0.0  # by the loop's clock, when it began to wait

    def wake(self) -> None:
        self._is_woken = True
        self._end_wait(True)

    async def woken(self) -> bool:
        """Wait to be woken, once for all calls of `wake` since the last time. False: the feed says that it is still there."""
        if not self._is_woken:
            loop = asyncio.get_running_loop()
            self._since, self._waiting = loop.time(), loop.create_future()
            try:
                return await self._waiting
            finally:
                self._waiting = None
                self._is_woken = False
        self._is_woken = False
        return True

    def ping(self, until: float) -> None:
        """End the wait with False if it began before that time."""
        if self._since < until:
            self._end_wait(False)

    def _end_wait(self, is_woken: bool) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(is_woken)


class Watcher(_Listener):
    """A watcher of a job, or of all jobs. `overrun`: it was too slow, and events were dropped."""

    __slots__ = ("_events", "fresh", "overrun", "quiet")

    def __init__(self, quiet: float) -> None:
        super().__init__()
        self.quiet = quiet  # seconds without an event after which `woken` returns False
        self.overrun = False
        self.fresh = True  # until earlier events are read from the store
        self._events: list[Event] = []

    def offer(self, event: Event) -> None:
        if len(self._events) >= QUEUE:
            self._events.clear()
            self.overrun = True
        else:
            self._events.append(event)
        self.wake()

    def take(self) -> list[Event]:
        """Return the events since the last call; none after an overrun."""
        events, self._events = self._events, []
        return events

    def end(self, job: JobRecord | None) -> None:
        """Ignore the record: the event of the end follows."""


class Waiter(_Listener):
    """A caller that waits for the end of a job. `job` is its record, if it has ended in this process."""

    __slots__ = ("job",)
    quiet = math.inf

    def __init__(self) -> None:
        super().__init__()
        self.job: JobRecord | None = None

    def offer(self, event: Event) -> None:
        if Status.is_terminal_name(event.name):
            self.wake()

    def end(self, job: JobRecord | None) -> None:
        self.job = self.job or job
        self.wake()


@dataclass(slots=True)
class _Audience:
    """The watchers for whom a reader reads: by their job, or all of them under None."""

    reader: NewEvents[Any]
    watchers: dict[str | None, set[Watcher | Waiter]] = field(default_factory=dict)
    left_at: float = -math.inf  # when the last one has left


class EventFeed:
    """Reads new events once and passes them to the watchers of their jobs."""

    def __init__(self, history: History, notifications: Notifications) -> None:
        self._notifications = notifications
        self._of_jobs = _Audience(history.new())
        self._of_all = _Audience(
            history.new_in_order()
        )  # who watches all jobs can resume, so sees what every reader sees
        self.reads = 0
        self.loop = Loop("event feed", self._distribute, every=self._until_next)
        self.pings = Loop("pings of streams", self._ping, every=PING_SECONDS)
        notifications.on(Wake.EVENTS, lambda _: self.loop.wake())

    @property
    def watchers(self) -> int:
        return sum(map(len, self._groups()))

    def wake(self) -> None:
        """Wake every watcher, because the service stops."""
        for group in self._groups():
            for watcher in group:
                watcher.wake()

    def notify(self) -> None:
        """Read events now, not at the next poll, because this process has committed some. Tell the other processes."""
        self.loop.wake()
        self._notifications.tell(Wake.EVENTS)

    def ended(self, job: JobRecord) -> None:
        """Give the committed record of a job that has ended here to those who wait for its end."""
        for watcher in self._of_jobs.watchers.get(job.id, ()):
            watcher.end(job)

    def left(self, job_id: str) -> None:
        """Let those who wait for the end of a job read it: its run here is over."""
        for watcher in self._of_jobs.watchers.get(job_id, ()):
            watcher.end(None)

    @asynccontextmanager
    async def watch(self, job_id: str | None, quiet: float = math.inf) -> AsyncIterator[Watcher]:
        """Watch a job (`None`: all jobs) from now on. Read earlier events from the store after this has begun.

        After `quiet` seconds without an event, its wait ends with False, at most PING_SECONDS late.
        """
        await self._join(job_id, watcher := Watcher(quiet))
        try:
            yield watcher
        finally:
            self._leave(job_id, watcher)

    @asynccontextmanager
    async def wait(self, job_id: str) -> AsyncIterator[Waiter]:
        """Wait for the end of a job. Read the job after this has begun: it may have ended before."""
        await self._join(job_id, waiter := Waiter())
        try:
            yield waiter
        finally:
            self._leave(job_id, waiter)

    async def _join(self, job_id: str | None, watcher: Watcher | Waiter) -> None:
        audience = self._audience(job_id)
        # A moment after the last watcher has left, it costs less to read the few events since then than to ask for the last.
        if not audience.watchers and time.monotonic() - audience.left_at > POLL_SECONDS:
            now = await audience.reader.now()
            if not audience.watchers:  # else a new watcher came meanwhile and must miss nothing
                audience.reader.position = now
        audience.watchers.setdefault(job_id, set()).add(watcher)
        self.loop.wake()

    def _leave(self, job_id: str | None, watcher: Watcher | Waiter) -> None:
        audience = self._audience(job_id)
        group = audience.watchers.get(job_id, set())
        group.discard(watcher)
        if not group:
            audience.watchers.pop(job_id, None)
        audience.left_at = time.monotonic()

    def _audience(self, job_id: str | None) -> _Audience:
        return self._of_all if job_id is None else self._of_jobs

    def _groups(self) -> list[set[Watcher | Waiter]]:
        return [*self._of_jobs.watchers.values(), *self._of_all.watchers.values()]

    def _until_next(self) -> float:
        is_behind = self._of_all.watchers and self._of_all.reader.is_behind
        return BEHIND_SECONDS if is_behind else POLL_SECONDS

    def start(self, background: BackgroundTasks) -> None:
        for loop in (self.loop, self.pings):
            background.spawn(loop.run(), name=loop.name)

    async def _ping(self) -> None:
        now = asyncio.get_running_loop().time()
        for group in self._groups():
            for watcher in group:
                watcher.ping(now - watcher.quiet)

    async def _distribute(self) -> None:
        for audience in (self._of_jobs, self._of_all):
            more = True
            while more and audience.watchers:
                events, more = await audience.reader.read()
                self.reads += 1
                for event in events:
                    job_id = None if audience is self._of_all else event.job_id
                    for watcher in tuple(audience.watchers.get(job_id, ())):
                        watcher.offer(event)
