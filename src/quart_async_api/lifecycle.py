"""The state of the process: running, draining or done. Work that must end in order registers here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from .errors import ShuttingDown, StartupError

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.5  # for work that is unfinished after the drain
PARTING_SECONDS = 0.2  # for what is done when the drain is over


class Lifecycle:
    """The work of the process, and the order in which it ends.

    `started` is set when all parts run. `draining` is set when the shutdown begins: new work is refused, all other requests
    are answered, each of `on_drain` is called, and each of `drains` gets `drain_seconds` to end its work. Each of `on_drained`
    is awaited when all have, for PARTING_SECONDS at most; its errors are dropped. `failure` is the error that prevented the
    start.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self.started = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: StartupError | None = None
        self.on_drain: list[Callable[[], None]] = []
        self.drains: list[Callable[[float], Awaitable[None]]] = []
        self.on_drained: list[Callable[[], Awaitable[None]]] = []
        self._waits: set[asyncio.Timeout] = set()
        self._arriving: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._drained: asyncio.Task[None] | None = None
        self._parting: asyncio.Future[list[BaseException | None]] | None = None
        self._over = False

    @property
    def waits(self) -> int:
        """Number of callers that wait in a request."""
        return len(self._waits)

    def admit(self) -> None:
        """Raise ShuttingDown if draining has begun."""
        if self.draining.is_set():
            raise ShuttingDown("the service is shutting down; try again")

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Let the shutdown wait for the work inside, at most for the drain. Raises ShuttingDown after it."""
        self.admit()
        self._idle.clear()
        try:
            async with self._endable(self._waits):
                yield
        finally:
            self._check_idle()

    @asynccontextmanager
    async def arrival(self) -> AsyncIterator[None]:
        """End the work inside after the drain; the shutdown does not wait for it. Raises ShuttingDown then."""
        async with self._endable(self._arriving):
            yield

    @asynccontextmanager
    async def _endable(self, limits: set[asyncio.Timeout]) -> AsyncIterator[None]:
        limit = asyncio.timeout(0 if self._over else None)  # also ends work that begins after the drain
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
        """Refuse new work, give running work `drain_seconds`, then end it. Concurrent callers wait for the first."""
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
        # Ended calls still have to answer. One that swallows its cancellation is not waited for.
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
        self._parting = asyncio.gather(*(part() for part in self.on_drained), return_exceptions=True)
        await asyncio.wait((self._parting,), timeout=PARTING_SECONDS)  # on a locked database it goes on


def _end(limits: Iterable[asyncio.Timeout]) -> None:
    now = asyncio.get_running_loop().time()
    for limit in limits:
        limit.reschedule(now)
