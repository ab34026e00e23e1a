"""One timer for all waits of a connection: it is set for each request, and seldom calls the event loop."""

import asyncio
import math
from collections.abc import Callable
from contextvars import Context


class OneTimer:
    """Waits for one thing at a time. `context`: that of the server, else the timer would keep that of a request alive."""

    __slots__ = ("_context", "_due", "_handle", "_loop", "_then")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._loop = loop
        self._context = context
        self._due = math.inf
        self._then: Callable[[], None] | None = None
        self._handle: asyncio.TimerHandle | None = None

    def wait(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` in so many seconds, in place of what was waited for."""
        self._due, self._then = self._loop.time() + seconds, then
        if self._handle is not None:
            if self._handle.when() <= self._due:
                return  # and is set anew when it fires
            self._handle.cancel()
        self._set(seconds)

    def rest(self) -> None:
        """Wait for nothing."""
        self._due = math.inf

    def cancel(self) -> None:
        """Wait for nothing, for good."""
        self.rest()
        self._then = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _set(self, seconds: float) -> None:
        self._handle = self._loop.call_later(seconds, self._look, context=self._context)

    def _look(self) -> None:
        self._handle = None
        left = self._due - self._loop.time()
        if left <= 0:
            self.rest()
            if self._then is not None:
                self._then()
        elif left < math.inf:
            self._set(left)
