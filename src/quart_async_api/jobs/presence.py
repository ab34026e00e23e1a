"""The presence of this process among the workers of a database: a lock, a heartbeat, and the release of dead workers' jobs.

The jobs of a dead worker run again elsewhere. Their run tokens refuse writes of the old runs.
"""

import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..background.loops import Loop, each
from ..background.tasks import BackgroundTasks
from ..errors import DatabaseUnavailable, TaskCrashed
from ..moments import Clock, timestamp, utc_now
from ..observability.logging import set_worker
from ..problem_types import describe
from ..settings import Settings
from .ids import new_id
from .liveness import Liveness
from .store import JobStore
from .workers import Process

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5  # between looks for dead workers
CUT_OFF_LEASES = 2.0  # without a heartbeat


@dataclass(frozen=True, slots=True)
class _Watched:
    """The last beat of another worker, and the seconds since then in which this process watched it.

    `cut`: locks may have become free since then without a death.
    """

    beat: int
    seconds: float = 0.0
    cut: bool = False


class Presence:
    """Keeps this worker registered under `id`. If it was declared dead, it registers again with a new `id`.

    It then calls each of `on_lost`: claims under the old id are lost. It calls each of `on_buried` with the id of another
    worker after releasing that worker's runs. It calls each of `on_cut_off` at each heartbeat that fails when the last good
    one is two leases ago: other workers may run the jobs of this one.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        liveness: Liveness,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self.engine = "none"  # as operators see it
        self._settings = settings
        self._liveness = liveness
        self._clock = clock
        self.id = new_id()
        self.on_lost: list[Callable[[], None]] = []
        self.on_buried: list[Callable[[str], None]] = []
        self.on_cut_off: list[Callable[[], None]] = []
        self._watched: dict[str, _Watched] = {}  # the other workers
        self._looked_at = time.monotonic()
        self._cuts = 0  # of the locks, when they were last looked at
        self.cut_off_seconds = CUT_OFF_LEASES * settings.lease_seconds
        self._interval = min(settings.lease_seconds / 3, liveness.beat_seconds)
        self.heartbeat = Loop("heartbeat", self._beat, every=self._interval)
        self.loops = (self.heartbeat, Loop("sweep for dead workers", self._bury_the_dead, every=SWEEP_SECONDS))
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def others(self) -> int:
        """The number of other workers of this database."""
        return len(self._watched)

    def _now(self) -> str:
        return timestamp(self._clock())

    async def start(self, background: BackgroundTasks) -> None:
        await self._enlist()
        self._tasks = [background.spawn(loop.run(), name=loop.name) for loop in self.loops]

    async def leave(self) -> None:
        """Unregister, if all claims under `id` are returned.

        Raises DatabaseUnavailable.
        """
        for task in self._tasks:
            task.cancel()
        if await self._store.workers.dismiss(self.id):
            await self._liveness.forget(self.id)

    async def stop(self) -> None:
        """Unregister, unless `leave` has done so after the drain, and release the lock."""
        try:
            await self.leave()
        except DatabaseUnavailable as error:
            log.warning("this worker could not unregister: %s", error)
        await self._liveness.release()

    async def _enlist(self) -> None:
        # The lock first: a worker with a row and a free lock counts as dead.
        await self._liveness.hold(self.id)
        process = Process(socket.gethostname()[:255], os.getpid(), self.engine)
        await self._store.workers.register(self.id, self._now(), process)
        set_worker(self.id)

    async def _beat(self) -> None:
        try:
            if not await self._liveness.beat(self._store.workers, self._now()):
                await self._enlist_anew()
        except DatabaseUnavailable:
            if self.heartbeat.late > self.cut_off_seconds:
                for cut_off in self.on_cut_off:
                    cut_off()
            raise

    async def _enlist_anew(self) -> None:
        log.error("this process sent no heartbeat for longer than its lease; other workers now run its jobs")
        self.id = new_id()
        await self._enlist()
        for lost in self.on_lost:
            lost()

    async def _bury_the_dead(self) -> None:
        self._watch(await self._store.workers.beats())
        await each(lambda worker=worker: self._bury_if_dead(worker) for worker in self._watched)  # type: ignore[misc]

    def _watch(self, workers: Mapping[str, int]) -> None:
        now = time.monotonic()
        # Time in which this process did not look does not count: it was suspended, or could not reach the database.
        # Nor does time in which its own heartbeat is late: the others may wait for the same lock, and then have an interval.
        is_late = self.heartbeat.late > min(SWEEP_SECONDS, self._interval / 2)
        looked = 0.0 if is_late else min(now - self._looked_at, 2 * SWEEP_SECONDS)
        longest = self._settings.lease_seconds - self._interval if is_late else math.inf
        cut = self._liveness.cuts != self._cuts
        self._looked_at, self._cuts = now, self._liveness.cuts

        def watched(worker: str, beat: int) -> _Watched:
            before = self._watched.get(worker)
            if before is None or before.beat != beat:
                return _Watched(beat)
            return _Watched(beat, cut=True) if cut else replace(before, seconds=min(before.seconds + looked, longest))

        self._watched = {worker: watched(worker, beat) for worker, beat in workers.items() if worker != self.id}

    async def _bury_if_dead(self, worker: str) -> None:
        watched = self._watched[worker]
        if watched.seconds <= self._settings.lease_seconds and (
            watched.cut or not await self._liveness.is_dead(worker, watched.seconds / self._interval)
        ):
            return
        crashed = json.dumps(describe(TaskCrashed("the process died in each run of this job")))
        settings = self._settings
        left = await self._store.crashes.bury(
            worker, self._now(), settings.result_ttl, settings.crash_limit, crashed, beat=watched.beat
        )
        if left is None:
            return
        await self._liveness.forget(worker)
        log.warning("worker %s is dead; it left %d running jobs", worker, left)
        for buried in self.on_buried:
            buried(worker)
