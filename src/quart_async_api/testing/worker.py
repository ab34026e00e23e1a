"""The worker of a test: it runs jobs on request, and records enqueued jobs and ended runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self, cast

from pydantic_core import to_jsonable_python

from ..background.loops import Loop
from ..background.tasks import BackgroundTasks
from ..jobs.states import JobRecord
from ..tasks import Task

if TYPE_CHECKING:
    from ..moments import ServiceClock
    from ..service import Service

PATIENCE = 30.0

JobMode = Literal["by_hand", "inline", "live"]


class HandWorker:
    """`inserted`: the jobs so far, as they were enqueued. `ended`: the ids of jobs, for each run that has ended."""

    def __init__(self, service: "Service", jobs: JobMode) -> None:
        self.jobs = jobs
        self.inserted: list[JobRecord] = []
        self.ended: list[str] = []
        self._service = service
        self._clock = cast("ServiceClock", service.clock)
        self._due = Loop("jobs of a test", self._run_due, every=None)
        service.store.submission.on_inserted.append(self._inserted)
        service.store.log.listeners.append(lambda end: self.ended.append(end.job_id))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Take part in a running service, beside the engine of live jobs, or in its place."""
        if self.jobs == "live":
            yield self
            return
        runs, background = self._service.runs, BackgroundTasks()
        runs.start()
        background.spawn(self._due.run(), name=self._due.name)
        try:
            yield self
        finally:
            runs.close()
            await background.close(grace=0)
            await runs.drain(0)
            await runs.stop()

    async def drain(self) -> None:
        """Run due jobs and send due callbacks, until nothing is due. Raises AssertionError after 30 s."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._service.store.pauses.look()  # now: a background loop would do it in a moment
                while await self._run_due() or await self._service.sender.until_idle():
                    pass
        except TimeoutError:
            running = ", ".join(job.task for job in self._service.runs.jobs) or "a callback"
            raise AssertionError(f"after {PATIENCE:g} s, there still runs: {running}") from None

    async def _run_due(self) -> bool:
        """Run the jobs that are due now, once. Return whether there were any."""
        runs = self._service.runs
        if runs.free > 0:
            await runs.claim(runs.free)
        return await runs.until_idle()

    def _inserted(self, record: JobRecord) -> None:
        self.inserted.append(record)
        if self._clock.stopped_at is not None:  # lists of jobs go by time, in milliseconds
            self._clock.stopped_at += timedelta(milliseconds=1)
        if self.jobs == "inline":
            self._due.wake()

    def find(self, task: Task | str, arguments: dict[str, object]) -> list[JobRecord]:
        """Return the jobs of a task with these arguments, among others. Raises LookupError and TypeError for unknown names."""
        name = task if isinstance(task, str) else task.name
        if name not in self._service.tasks:
            raise LookupError(f"no task is named {name!r}; there are {', '.join(sorted(self._service.tasks))}")
        model = self._service.tasks[name].arguments
        if unknown := sorted(arguments.keys() - model.model_fields.keys()):
            raise TypeError(f"the task {name} has no argument {unknown[0]!r}")

        def has(record: JobRecord) -> bool:
            given, stored = model.model_validate_json(record.args), record.part("args")
            return all(
                getattr(given, each) == value or stored[each] == to_jsonable_python(value)
                for each, value in arguments.items()
            )

        return [record for record in self.inserted if record.task == name and has(record)]

    def calls(self) -> str:
        return ", ".join(call(record.task, record.part("args")) for record in self.inserted) or "none"


def call(task: Task | str, arguments: dict[str, object]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{task if isinstance(task, str) else task.name}({given})"
