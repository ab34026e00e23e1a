"""What the process is doing with its work: running it, draining it, done. Everything that must end with it asks here."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from .errors import ShuttingDown, StartupError

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 1.0


class Lifecycle:
    """Work in requests and work in the background, and the order in which both end.

    `started` is set when everything is up. `draining` is set from the moment that shutdown begins: intake stops, the rest
    is still answered. `failure` is what kept the service from starting.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self.started = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: StartupError | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._arriving: set[asyncio.Timeout] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._context = contextvars.copy_context()
        self._drained: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Remember the context of now, bound to the database and to no request, for all background work."""
        self._context = contextvars.copy_context()
        self.started.set()

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
        limit = asyncio.timeout(None)
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

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` beyond the request that asked for it: in a clean context, held strongly. Raises ShuttingDown."""
        try:
            self.admit()
        except ShuttingDown:
            work.close()
            raise
        # The request's context holds its request and any open transaction; background work must inherit neither.
        task = asyncio.get_running_loop().create_task(work, name=name, context=self._context.copy())
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_idle()
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", task.get_name(), exc_info=error)

    def _check_idle(self) -> None:
        if not self._waits and not self._tasks:
            self._idle.set()

    async def drain(self) -> None:
        """Stop the intake, give what runs `drain_seconds`, then end it. The second caller waits for the first."""
        if self._drained is None:
            self._drained = asyncio.create_task(self._drain(), name="drain")
        await asyncio.shield(self._drained)

    async def _drain(self) -> None:
        self.draining.set()
        try:
            async with asyncio.timeout(self.drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("ended %d waiting calls and %d background tasks unfinished", len(self._waits), len(self._tasks))
        now = asyncio.get_running_loop().time()
        for limit in (*self._waits, *self._arriving):
            limit.reschedule(now)
        for task in self._tasks:
            task.cancel()
        # Whoever was ended still has to say so to its caller; one that swallows its cancellation is not waited for.
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._idle.wait()
