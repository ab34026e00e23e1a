"""Runs all cleaners in one background loop: every minute, or more often if jobs expire sooner."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from ..background.loops import Loop, each
from ..moments import Clock, timestamp, utc_now
from ..settings import Settings
from .store import JobStore

log = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
PATIENCE_SECONDS = 600.0  # a round may have much to delete
BATCH = 500  # jobs in one transaction, to keep it short


class Janitor:
    """The cleaning loop. Each of `also` cleans other tables in the same round; its argument is the time."""

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
        # With a lifetime of a few seconds, clean every few seconds.
        every = min(ROUND_SECONDS, max(1.0, settings.result_ttl / 2))
        self.loop = Loop("janitor", self.clean, every=every, patience=PATIENCE_SECONDS)

    async def clean(self) -> int:
        """Do one round. Return the number of expired jobs."""
        expired = 0

        async def expire(now: str) -> None:
            nonlocal expired
            while count := await self._store.retention.expire(now, self._settings.tombstone_ttl, BATCH):
                expired += count

        async def adopt(_: str) -> None:
            if found := await self._store.adoption.adopt():
                log.warning("repaired the queue state of %d jobs that an older version has written", found)

        async def restored(_: str) -> None:
            if found := await self._store.history.forget_transactions():
                log.warning("%d events were restored from another server: their order is that of their ids", found)

        cleaners = (adopt, restored, expire, self._store.retention.forget, *self._also)
        await each(lambda clean=clean: clean(timestamp(self._clock())) for clean in cleaners)  # type: ignore[misc]
        return expired
