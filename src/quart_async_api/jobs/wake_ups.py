"""When a process looks for work after a wake-up of another one: with many processes, some at once and the rest a moment later.

One of them can take all jobs that a wake-up tells of. If all looked, most of them would ask the database for nothing.
"""

import asyncio
import random
from collections.abc import Callable

AT_ONCE = 8  # of all processes, on average: some may be full, have other tasks, or run no jobs
LATER_SECONDS = 0.1  # in which the others look, once for all wake-ups of this time


class WakeUps:
    """The wake-ups of one process. `others` is the number of other processes, `look` looks for work."""

    def __init__(
        self, others: Callable[[], int], look: Callable[[], None], chance: random.Random | None = None
    ) -> None:
        self._others = others
        self._look = look
        self._chance = chance or random.Random()  # noqa: S311  no secret
        self._is_due = False

    def heard(self, _: object = None) -> None:
        """Look for work now, or within LATER_SECONDS."""
        if self._chance.random() * (self._others() + 1) < AT_ONCE:
            self._look()
        elif not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(LATER_SECONDS * self._chance.random(), self._later)

    def _later(self) -> None:
        self._is_due = False
        self._look()
