"""The tasks whose jobs this process can begin."""

import asyncio
import logging

from .pauses import Pauses
from .run_log import fields
from .states import JobRecord

log = logging.getLogger(__name__)

UNREADY_SECONDS = 5.0  # how long a process leaves the jobs of a task that missed a resource in it


class Readiness:
    """`mine`: the tasks of this process's queues. `tasks`: those not paused, that missed no resource here a moment ago."""

    def __init__(self, mine: tuple[str, ...], pauses: Pauses) -> None:
        self.mine = mine
        self._pauses = pauses
        self._unready: dict[str, float] = {}  # until when, by the loop's clock, a task is not begun here

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(filter(self.includes, self.mine))

    def includes(self, task: str) -> bool:
        is_paused = task in self._pauses.names
        return task in self.mine and not is_paused and self._unready.get(task, 0.0) <= _now()

    def put_off(self, job: JobRecord, resource: str) -> None:
        """Leave the jobs of this task to processes that have the resource, or to this one in a moment."""
        if self.includes(job.task):  # else another of its jobs has just said so
            message = "job %s (%s) waits in the queue: this process has no %s; it looks again in %g s"
            log.warning(message, job.id, job.task, resource, UNREADY_SECONDS, extra=fields(job))
        self._unready[job.task] = _now() + UNREADY_SECONDS


def _now() -> float:
    return asyncio.get_running_loop().time()
