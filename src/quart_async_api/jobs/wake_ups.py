"""What a process tells others about jobs, and when it looks for work after it was told.

With many processes, some look at once and the rest a moment later.

One of them can take all jobs that a wake-up tells of. If all looked, most of them would ask the database for nothing.
"""

import asyncio
import random
from collections.abc import Callable

from ..db.notifications import Notifications, Wake
from .runs import Runs
from .states import JobRecord, Status

AT_ONCE = 8  # of all processes, on average: some may be full, have other tasks, or run no jobs
LATER_SECONDS = 0.1  # in which the others look, once for all wake-ups of this time


def cancel(job: JobRecord, runs: Runs, notifications: Notifications) -> None:
    """Stop the run of a job whose cancellation is committed, here or in the process that has it."""
    if not runs.cancel(job.id) and job.status is Status.RUNNING:
        notifications.tell(Wake.CANCEL, job.id)


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
