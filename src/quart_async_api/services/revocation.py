"""Revoking a key, and cancelling its jobs."""

import asyncio
from collections.abc import Sequence

from ..access.keys import Key, KeyStore
from ..jobs.store import JobStore
from ..jobs.transitions import CancelAnswer
from ..moments import Clock, timestamp
from ..settings import Settings

_AT_ONCE = 500  # cancellations that share commits


class Revocation:
    def __init__(self, keys: KeyStore, store: JobStore, settings: Settings, clock: Clock) -> None:
        self._keys = keys
        self._store = store
        self._ttl = settings.result_ttl
        self._clock = clock

    async def revoke(self, id_or_name: str) -> tuple[Key, list[str]]:
        """Revoke a key; return the ids of its unfinished jobs. Raises InvalidInput."""
        key = await self._keys.revoke(id_or_name)
        return key, await self._store.reading.unfinished(key.id)

    async def cancel(self, job_ids: Sequence[str]) -> int:
        """Cancel queued jobs and ask running jobs to stop; return how many were unfinished."""
        cancelled = 0
        for start in range(0, len(job_ids), _AT_ONCE):
            now = timestamp(self._clock())
            some = job_ids[start : start + _AT_ONCE]
            answers = await asyncio.gather(*(self._store.transitions.cancel(job_id, now, self._ttl) for job_id in some))
            cancelled += sum(answer is not CancelAnswer.ENDED for answer, _ in answers)
        return cancelled
