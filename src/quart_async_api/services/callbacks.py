"""Callbacks for callers: check the URL, list deliveries, replay."""

from collections.abc import Callable, Sequence
from typing import Any

from ..access.caller import Caller
from ..callbacks.deliveries import Deliveries
from ..callbacks.outbox import TERMINAL_TYPES
from ..callbacks.reading import CallbackReading
from ..callbacks.target import BadTarget, Targets
from ..errors import FieldError, InvalidInput
from ..jobs.store import JobStore
from ..moments import Clock, timestamp, utc_now
from .submissions import Callback


class Callbacks:
    def __init__(
        self,
        jobs: JobStore,
        deliveries: Deliveries,
        reading: CallbackReading,
        targets: Targets,
        wake: Callable[[], None],
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._jobs = jobs
        self._deliveries = deliveries
        self._reading = reading
        self._targets = targets
        self._wake = wake
        self._clock = clock

    def wanted(self, url: str | None, types: Sequence[str]) -> Callback | None:
        """Check a callback to `url` for `types` (default: the end of the job). None without a URL. Raises InvalidInput."""
        if url is None:
            if types:
                raise InvalidInput(FieldError("#/callback_events", "Goes with `callback_url`, which is missing"))
            return None
        try:
            target = self._targets.parse(url)
        except BadTarget as error:
            raise InvalidInput(FieldError("#/callback_url", str(error))) from None
        return Callback(target.url, tuple(dict.fromkeys(types)) or TERMINAL_TYPES)

    async def of_job(self, job_id: str, caller: Caller) -> list[dict[str, Any]]:
        """List the deliveries of a job in order. Raises JobNotFound, JobExpired."""
        await self._jobs.reading.get(job_id, caller.sees)
        return await self._reading.of_job(job_id)

    async def page(
        self, limit: int, caller: Caller, *, before: int | None = None, **filters: str | None
    ) -> list[tuple[int, dict[str, Any]]]:
        """List the deliveries of all jobs of the caller, newest first: see `CallbackReading.page`."""
        return await self._reading.page(limit, caller.sees, before=before, **filters)

    async def replay(self, job_id: str, message_id: str, caller: Caller) -> None:
        """Send a callback again, now, with the same id. Raises JobNotFound, JobExpired, CallbackNotFound."""
        await self._jobs.reading.get(job_id, caller.sees)
        await self._deliveries.replay(job_id, message_id, timestamp(self._clock()))
        self._wake()
