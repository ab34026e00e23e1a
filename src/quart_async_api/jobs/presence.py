"""A process as one of the workers on a database: it holds a lock, beats, and buries those that do neither.

What a dead worker ran is void: it runs again elsewhere, and what that one may still write is refused by the fence.
"""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import DatabaseUnavailable, TaskCrashed
from ..problem_types import describe
from ..settings import Settings
from .background import BackgroundTasks
from .ids import new_id
from .liveness import Liveness
from .loop import Loop
from .states import timestamp
from .store import JobStore

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5  # how late another's death is seen


class Presence:
    """`id` is this worker's, another one after it was declared dead.

    Each of `on_lost` is called when that has happened, and `id` is enlisted anew: what was claimed under another id is
    somebody else's. Each of `on_buried` is called with the id of another worker when its runs have been released.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        liveness: Liveness,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._settings = settings
        self._liveness = liveness
        self._clock = clock
        self.id = new_id()
        self.on_lost: list[Callable[[], None]] = []
        self.on_buried: list[Callable[[str], None]] = []
        self._seen: dict[str, tuple[int, float]] = {}  # the last beat of each other worker, and when it was first seen
        self.loops = (
            Loop("heartbeat", self._beat, every=settings.lease_seconds / 3),
            Loop("sweep for dead workers", self._bury_the_dead, every=SWEEP_SECONDS),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def _now(self) -> str:
        return timestamp(self._clock())

    async def start(self, background: BackgroundTasks) -> None:
        await self._enlist()
        self._tasks = [background.spawn(loop.run(), name=loop.name) for loop in self.loops]

    async def stop(self) -> None:
        """Leave, when everything that was claimed under `id` has been given back."""
        for task in self._tasks:
            task.cancel()
        try:
            await self._store.dismiss(self.id)
        except DatabaseUnavailable as error:
            log.warning("left without saying so: %s", error)
        await self._liveness.release()

    async def _enlist(self) -> None:
        # The lock first: a worker whose row is there and whose lock is free is dead.
        await self._liveness.hold(self.id)
        await self._store.register(self.id, self._now())

    async def _beat(self) -> None:
        await self._liveness.keep()
        if not await self._store.beat(self.id):
            await self._enlist_anew()

    async def _enlist_anew(self) -> None:
        log.error("this process did not answer for longer than its lease: its work was given to others")
        self.id = new_id()
        await self._enlist()
        for lost in self.on_lost:
            lost()

    async def _bury_the_dead(self) -> None:
        workers = await self._store.workers()
        now = time.monotonic()
        # A lease runs out by this process's own clock: a beat that was watched and did not change for so long.
        self._seen = {
            worker: seen if (seen := self._seen.get(worker)) and seen[0] == beat else (beat, now)
            for worker, beat in workers.items()
            if worker != self.id
        }
        for worker, (_, since) in self._seen.items():
            if now - since > self._settings.lease_seconds or await self._liveness.is_dead(worker):
                crashed = json.dumps(describe(TaskCrashed("the process that ran it died each time")))
                left = await self._store.bury(
                    worker, self._now(), self._settings.result_ttl, self._settings.crash_limit, crashed
                )
                log.warning("worker %s is dead; it left %d running jobs", worker, left)
                for buried in self.on_buried:
                    buried(worker)
