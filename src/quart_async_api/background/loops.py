"""Background loops: rounds of work that continue after every exception and record their last success."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

from ..db.failures import as_unavailable

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 5.0
PATIENCE_SECONDS = 15.0  # more than the time limits of the database


class Loop:
    """Runs `work` at once, then again each `every` seconds, and when `wake` is called; with None, only then.

    A round that raises is logged, unless the one before raised the same type, and repeated after a pause that grows.
    `patience` is how many seconds a round may be late, or take with its repetitions, before the loop is overdue.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        every: float | Callable[[], float] | None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.name = name
        self.work = work
        self.patience = patience
        self.succeeded_at: datetime | None = None  # end of the last successful round
        self.error: Exception | None = None  # error of the last round
        self.failures = 0  # failed rounds in a row
        self._every = every
        self._wanted: float | None = None  # since when a successful round is missing
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """Run a round now, or another one after the current round."""
        if self._wanted is None:
            self._wanted = time.monotonic()
        self._woken.set()

    def end(self) -> None:
        """Let `run` return after the current round."""
        self._ended.set()
        self._woken.set()

    @property
    def late(self) -> float:
        """Seconds for which a successful round has been missing."""
        return 0.0 if self._wanted is None else max(0.0, time.monotonic() - self._wanted)

    @property
    def is_overdue(self) -> bool:
        return self.late > self.patience

    async def run(self) -> None:
        """Run until it is cancelled or `end` is called."""
        if self._every is None:
            await self._woken.wait()
        while not self._ended.is_set():
            self._woken.clear()
            if await self._round():
                interval = self._every() if callable(self._every) else self._every
                self._wanted = None if interval is None else time.monotonic() + interval
                await until_set(self._woken, interval)
            else:
                await until_set(self._ended, self._backoff())

    async def _round(self) -> bool:
        self._wanted = min(self._wanted or math.inf, time.monotonic())
        try:
            await self.work()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._failed(RuntimeError("something that it waited for was cancelled"))
        except Exception as error:
            self._failed(error)
        else:
            self._succeeded()
        return self.error is None

    def _succeeded(self) -> None:
        if self.error is not None:
            log.info("%s succeeded after %d failed rounds", self.name, self.failures)
        self.succeeded_at, self.error, self.failures, self._wanted = datetime.now(UTC), None, 0, None

    def _failed(self, error: Exception) -> None:
        unavailable = as_unavailable(error)
        error = unavailable or error
        if type(error) is not type(self.error):
            if unavailable is not None:
                log.warning("%s waits: %s", self.name, error)
            else:
                log.error("%s failed and will be repeated until it succeeds", self.name, exc_info=error)
        self.error = error
        self.failures += 1

    def _backoff(self) -> float:
        # A loop with short intervals is repeated at its interval.
        often = self._every if isinstance(self._every, float) else LONGEST_BACKOFF_SECONDS
        return min(often, LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self.failures - 1, 10))


async def until_set(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, at most `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def each(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run all steps in order, even if one raises; then raise the first exception."""
    first: Exception | None = None
    for work in works:
        try:
            await work()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


class LagMeter:
    """The last measurement of the event-loop lag, in seconds."""

    EVERY_SECONDS = 0.5

    def __init__(self) -> None:
        self.seconds = 0.0
        self.listeners: list[Callable[[float], None]] = []
        self.loop = Loop("event-loop lag", self._measure, every=0.0)

    async def _measure(self) -> None:
        began = time.monotonic()
        await asyncio.sleep(self.EVERY_SECONDS)
        self.seconds = max(0.0, time.monotonic() - began - self.EVERY_SECONDS)
        for listener in self.listeners:
            listener(self.seconds)
