"""Keeps what grows within its bounds: finished jobs become tombstones, and what is past its time is deleted."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from ..background.loops import Loop, each
from ..moments import Clock, timestamp, utc_now
from ..settings import Settings
from .store import JobStore

log = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
PATIENCE_SECONDS = 600.0  # a round may have much to delete
BATCH = 500  # jobs in one transaction: others want the database too


class Janitor:
    """Each of `also` cleans something else in the same round, given the time."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        *,
        also: Sequence[Callable[[str], Awaitable[None]]] = (),
        clock: Clock = utc_now,
    ) -> None:
        self._also = also
        self._store = store
        self._settings = settings
        self._clock = clock
        # Jobs that live for seconds only are deleted as often.
        every = min(ROUND_SECONDS, max(1.0, settings.result_ttl / 2))
        self.loop = Loop("janitor", self.clean, every=every, patience=PATIENCE_SECONDS)

    async def clean(self) -> int:
        """Do one round; the number of jobs that expired."""
        expired = 0

        async def expire(now: str) -> None:
            nonlocal expired
            while count := await self._store.retention.expire(now, self._settings.tombstone_ttl, BATCH):
                expired += count

        async def adopt(_: str) -> None:
            if found := await self._store.adoption.adopt():
                log.warning("%d jobs that an older process has left are in the queue as they should be now", found)

        cleaners = (adopt, expire, self._store.retention.forget, *self._also)
        await each(lambda clean=clean: clean(timestamp(self._clock())) for clean in cleaners)  # type: ignore[misc]
        return expired
