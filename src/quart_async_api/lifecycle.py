"""What the process is doing: running, draining, done. Everything that must end with it asks here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from .errors import ShuttingDown, StartupError

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.5  # for all that is still going on when the drain is over


class Lifecycle:
    """The work in requests and behind them, and the order in which it ends.

    `started` is set when everything is up. `draining` is set from the moment that shutdown begins: intake stops, the rest
    is still answered; each of `on_drain` is called, and each of `drains` is given `drain_seconds` to end its work. `failure`
    is what kept the service from starting.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self.started = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: StartupError | None = None
        self.on_drain: list[Callable[[], None]] = []
        self.drains: list[Callable[[float], Awaitable[None]]] = []
        self._waits: set[asyncio.Timeout] = set()
        self._arriving: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._drained: asyncio.Task[None] | None = None
        self._over = False

    @property
    def waits(self) -> int:
        """How many callers wait for work in their request."""
        return len(self._waits)

    def admit(self) -> None:
        """Raises ShuttingDown once draining has begun."""
        if self.draining.is_set():
            raise ShuttingDown("the service is shutting down; try again")

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Hold the shutdown for the work inside, as long as draining may last. Raises ShuttingDown when it may not go on."""
        self.admit()
        self._idle.clear()
        try:
            async with self._endable(self._waits):
                yield
        finally:
            self._check_idle()

    @asynccontextmanager
    async def arrival(self) -> AsyncIterator[None]:
        """End what waits for its client inside when the drain is over, without holding it. Raises ShuttingDown then."""
        async with self._endable(self._arriving):
            yield

    @asynccontextmanager
    async def _endable(self, limits: set[asyncio.Timeout]) -> AsyncIterator[None]:
        limit = asyncio.timeout(0 if self._over else None)  # who comes after the end is ended all the same
        try:
            async with limit:
                limits.add(limit)
                yield
        except TimeoutError:
            if limit.expired():
                raise ShuttingDown("the service shut down before this was done; try again") from None
            raise
        finally:
            limits.discard(limit)

    def _check_idle(self) -> None:
        if not self._waits:
            self._idle.set()

    async def drain(self) -> None:
        """Stop the intake, give what runs `drain_seconds`, then end it. The second caller waits for the first."""
        if self._drained is None:
            self._drained = asyncio.create_task(self._drain(), name="drain")
        await asyncio.shield(self._drained)

    async def _end_waits(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_seconds):
                await self._idle.wait()
                return
        log.warning("ended %d waiting calls unfinished", len(self._waits))
        _end(self._waits)
        # Whoever was ended still has to say so to its caller; one that swallows its cancellation is not waited for.
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._idle.wait()

    async def _drain(self) -> None:
        self.draining.set()
        for wake in self.on_drain:
            wake()
        drains = (self._end_waits(), *(drain(self.drain_seconds) for drain in self.drains))
        outcomes = await asyncio.gather(*drains, return_exceptions=True)
        self._over = True
        _end(self._arriving)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome


def _end(limits: Iterable[asyncio.Timeout]) -> None:
    now = asyncio.get_running_loop().time()
    for limit in limits:
        limit.reschedule(now)
