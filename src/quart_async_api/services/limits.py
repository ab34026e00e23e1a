"""Rate limits: requests per caller and time window. Independent of HTTP."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from ..settings import Settings

MOST_CALLERS = 100_000
UNLESS_SET = "600/minute"
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class Policy:
    """`quota` requests in `window` seconds."""

    quota: int
    window: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text like `600/minute`."""
        quota, _, unit = text.partition("/")
        return cls(int(quota), _SECONDS[unit])


@dataclass(frozen=True, slots=True)
class Quota:
    """The remaining requests of a caller, and the whole seconds until the window ends."""

    remaining: int
    resets_in: int
    exceeded: bool = False


@dataclass(slots=True)
class _Window:
    began: float
    taken: int = 0


class RateLimits:
    """One window for each caller, which begins with its first request. Its size does not depend on the requests.

    With more than MOST_CALLERS, the oldest window is dropped.
    """

    def __init__(self, policy: Policy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # by when they began
        self.on_taken: Callable[[str], None] | None = None  # called with the caller of each request that is counted

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the limits of `QAA_RATE_LIMIT`; None for no limit."""
        return None if settings.rate_limit == "off" else cls(Policy.parse(settings.rate_limit or UNLESS_SET))

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, caller: str) -> Quota:
        """Count one request of `caller`. A request past the quota is not counted."""
        now = self._clock()
        window = self._window(caller, now)
        exceeded = window.taken >= self.policy.quota
        if not exceeded:
            window.taken += 1
            if self.on_taken is not None:
                self.on_taken(caller)
        resets_in = math.ceil(self.policy.window - (now - window.began))
        return Quota(self.policy.quota - window.taken, resets_in, exceeded)

    def add(self, caller: str, count: int) -> None:
        """Count requests of `caller` that other processes have counted."""
        window = self._window(caller, self._clock())
        window.taken = min(self.policy.quota, window.taken + count)

    def _window(self, caller: str, now: float) -> _Window:
        window = self._windows.get(caller)
        if window is None or self._is_over(window, now):
            self._forget(now)
            window = self._windows[caller] = _Window(now)
        return window

    def _forget(self, now: float) -> None:
        """Drop expired windows, and one more if there is no room."""
        while self._windows and (
            self._is_over(next(iter(self._windows.values())), now) or len(self._windows) >= MOST_CALLERS
        ):
            self._windows.popitem(last=False)

    def _is_over(self, window: _Window, now: float) -> bool:
        return now - window.began >= self.policy.window
