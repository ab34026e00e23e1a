"""Notices trouble that no error shows: jobs that run far too long, a queue that only grows, missed schedules, dead workers.

Each is a line in the log, a metric and a check of `/health/ready`.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from croniter import croniter

from ..background.loops import Loop, each
from ..db.connection import Database
from ..jobs.pauses import LATE_SECONDS, TaskState
from ..jobs.run_log import AttemptEnd, fields
from ..jobs.runs import Runs
from ..moments import Clock, moment, timestamp
from ..tasks import Task
from .census import Census

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
LONG_TIMES = 10.0  # the usual time of the task
LONG_SECONDS = 1.0  # at least
KNOWN_AFTER = 5  # attempts that succeeded
WEIGHT = 0.2  # of the newest of them in the usual time
GROWTH_LOOKS = 10  # in a row, none of which finds fewer jobs
GROWTH_JOBS = 100  # at least
SHOWN_SECONDS = 600.0  # for what happens in one moment


class Kind(StrEnum):
    LONG_RUN = "long-run"
    GROWING_QUEUE = "growing-queue"
    MISSED_SCHEDULE = "missed-schedule"
    DEAD_WORKER = "dead-worker"


class Attention:
    """What one process notices. `troubles` has no ids of jobs: anyone may read it."""

    def __init__(self, runs: Runs, census: Census, database: Database, tasks: Mapping[str, Task], clock: Clock) -> None:
        self._runs = runs
        self._census = census
        self._database = database
        self._scheduled = {name: task.schedule for name, task in tasks.items() if task.schedule}
        self._clock = clock
        self._began = clock()
        self._usual: dict[str, tuple[int, float]] = {}  # attempts and seconds, by task
        self._told: set[str] = set()  # the runs that are too long, by their tokens
        self._due: deque[float] = deque(maxlen=GROWTH_LOOKS)
        self._missed: dict[str, datetime] = {}  # the last missed tick, by task
        self._until: dict[Kind, float] = {}
        self.troubles: dict[Kind, str] = {}
        self.loop = Loop("watch for trouble", self.look, every=LOOK_SECONDS)
        runs.store.log.listeners.append(self._ended)
        runs.presence.on_buried.append(self._buried)

    def _ended(self, end: AttemptEnd) -> None:
        if end.outcome == "succeeded":
            number, usual = self._usual.get(end.task, (0, end.ran))
            self._usual[end.task] = number + 1, usual + WEIGHT * (end.ran - usual)

    def _buried(self, worker: str) -> None:
        self._show(Kind.DEAD_WORKER, f"worker {worker} has died; its jobs run again", SHOWN_SECONDS)

    def _show(self, kind: Kind, text: str, seconds: float) -> None:
        self.troubles[kind], self._until[kind] = text, time.monotonic() + seconds

    async def look(self) -> None:
        """Look for all kinds of trouble, and forget what is over."""
        now = time.monotonic()
        for kind in [kind for kind, until in self._until.items() if until <= now]:
            del self._until[kind], self.troubles[kind]
        self._look_at_runs()
        await each((self._look_at_queue, self._look_at_schedules))

    def _look_at_runs(self) -> None:
        now, longest = self._clock(), 0.0
        running = {job.run_token or "": job for job in self._runs.jobs}
        self._told &= running.keys()
        for token, job in running.items():
            number, usual = self._usual.get(job.task, (0, 0.0))
            ran = (now - moment(job.started_at or timestamp(now))).total_seconds()
            if number < KNOWN_AFTER or ran <= max(LONG_SECONDS, LONG_TIMES * usual):
                continue
            if ran > longest:
                longest = ran
                text = f"a job of task {job.task} has run for {ran:.0f} s, usually it takes {usual:.1f} s"
                self._show(Kind.LONG_RUN, text, 2 * LOOK_SECONDS)
            if token not in self._told:
                self._told.add(token)
                log.warning(
                    "job %s (%s) has run for %.0f s, usually it takes %.1f s",
                    job.id,
                    job.task,
                    ran,
                    usual,
                    extra={"trouble": Kind.LONG_RUN.value, **fields(job)},
                )

    async def _look_at_queue(self) -> None:
        jobs = (await self._census.figures()).get("qaa_jobs")
        if not isinstance(jobs, Mapping):
            return
        paused = self._runs.store.pauses.names  # until their jobs are moved to a stage of their own
        self._due.append(
            sum(number for (task, state), number in jobs.items() if state == "ready" and task not in paused)
        )
        if is_growing(self._due):
            text = f"the queue only grows: from {self._due[0]:.0f} to {self._due[-1]:.0f} jobs that are due"
            self._tell(Kind.GROWING_QUEUE, text, GROWTH_LOOKS * LOOK_SECONDS)

    async def _look_at_schedules(self) -> None:
        # A tick may be fired late, by any process.
        until = self._clock() - timedelta(seconds=LATE_SECONDS + LOOK_SECONDS)
        states = await self._runs.store.pauses.states() if self._scheduled else {}
        for name, schedule in self._scheduled.items():
            tick: datetime = croniter(schedule, until).get_prev(datetime)
            if tick < self._began or self._missed.get(name) == tick:
                continue
            if states.get(name, TaskState()).was_paused_at(timestamp(tick)):
                continue
            [row] = await self._database.read("SELECT MAX(tick) AS last FROM schedule_ticks WHERE task = ?", name)
            if row["last"] is None or row["last"] < timestamp(tick):
                self._missed[name] = tick
                text = f"the schedule of task {name} missed {timestamp(tick)[:16]}Z"
                self._tell(Kind.MISSED_SCHEDULE, text, SHOWN_SECONDS)

    def _tell(self, kind: Kind, text: str, seconds: float) -> None:
        if kind is not Kind.GROWING_QUEUE or kind not in self.troubles:
            log.warning("%s", text, extra={"trouble": kind.value})
        self._show(kind, text, seconds)


def is_growing(due: Sequence[float]) -> bool:
    """Return whether the last GROWTH_LOOKS numbers of due jobs never fall, and end higher than they began."""
    pairs = zip(list(due), list(due)[1:], strict=False)
    return len(due) == GROWTH_LOOKS and due[-1] >= GROWTH_JOBS and due[-1] > due[0] and all(a <= b for a, b in pairs)
