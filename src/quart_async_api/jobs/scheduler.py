"""Starts scheduled tasks, once for each tick of the schedule, with any number of processes."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from croniter import croniter

from ..background.loops import Loop, each
from ..moments import Clock, later, timestamp, utc_now
from ..observability.tracing import traceparent_of_job
from ..tasks import Task
from .ids import new_id
from .pauses import LATE_SECONDS
from .queue import SKEW_SECONDS
from .states import JobRecord, Status
from .store import JobStore


class Scheduler:
    def __init__(
        self,
        store: JobStore,
        tasks: Mapping[str, Task],
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._tasks = {name: task for name, task in tasks.items() if task.schedule}
        self._clock = clock
        self.loop = Loop("scheduler", self.fire, every=self._until_next_minute)

    def _until_next_minute(self) -> float:
        return 60 - self._clock().timestamp() % 60 + 0.01

    async def fire(self) -> list[JobRecord]:
        """Start the tasks whose current tick no process has fired yet."""
        now = self._clock()
        fired: list[JobRecord] = []
        if self._tasks:
            await self._store.submission.forget_ticks(tuple(self._tasks), later(timestamp(now), SKEW_SECONDS))
        await each(lambda task=task: self._fire(task, now, fired) for task in self._tasks.values())  # type: ignore[misc]
        return fired

    async def _fire(self, task: Task, now: datetime, fired: list[JobRecord]) -> None:
        tick = croniter(task.schedule or "", now + timedelta(seconds=1)).get_prev(datetime)
        if now - tick > timedelta(seconds=LATE_SECONDS):
            return
        arguments = task.arguments()
        job = JobRecord(
            id=new_id(now),
            task=task.name,
            status=Status.QUEUED,
            args=arguments.model_dump_json(),
            urgency=0,
            max_attempts=task.retries + 1,
            timeout=task.timeout,
            created_at=timestamp(now),
            run_at=timestamp(now),
            traceparent=traceparent_of_job(),
            slot=task.slot(arguments),
            slot_limit=task.concurrency,
        )
        if await self._store.submission.tick(task.name, timestamp(tick), job):
            fired.append(job)
