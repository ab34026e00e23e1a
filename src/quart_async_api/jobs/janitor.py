"""Keeps what grows within its bounds: finished jobs become tombstones, and what is past its time is deleted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from ..errors import DatabaseUnavailable
from ..settings import Settings
from .states import timestamp
from .store import JobStore

log = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
BATCH = 500  # jobs in one transaction: others want the database too


class Janitor:
    """Each of `also` cleans something else in the same round, given the time."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        *,
        also: Sequence[Callable[[str], Awaitable[None]]] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._also = also
        self._store = store
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Clean up now and every minute."""
        while True:
            try:
                await self.clean()
            except DatabaseUnavailable as error:
                log.warning("cleaning waits: %s", error)
            # Jobs that live for seconds only are looked after as often.
            await asyncio.sleep(min(ROUND_SECONDS, max(1.0, self._settings.result_ttl / 2)))

    async def clean(self) -> int:
        """Do one round; the number of jobs that expired."""
        expired = 0
        while count := await self._store.expire(timestamp(self._clock()), self._settings.tombstone_ttl, BATCH):
            expired += count
        await self._store.forget(timestamp(self._clock()))
        for clean in self._also:
            await clean(timestamp(self._clock()))
        return expired
