"""Tasks for operators: pause and resume one, and start a scheduled one now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from croniter import croniter

from ..errors import TaskNotFound, TaskUnscheduled
from ..jobs.pauses import Pauses, TaskState
from ..jobs.states import JobRecord
from ..moments import Clock, timestamp, utc_now
from ..tasks import Task
from .submissions import JobKey, Submissions


@dataclass(frozen=True, slots=True)
class OperatedTask:
    """A task and its state. `next_run_at`: the next tick of its schedule, None while it is paused."""

    task: Task
    paused_at: str | None
    next_run_at: str | None
    last_run_at: str | None


class TaskOperations:
    """The tasks of one database. `wake` tells other processes of a change."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        pauses: Pauses,
        submissions: Submissions,
        wake: Callable[[], None],
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._tasks = tasks
        self._pauses = pauses
        self._submissions = submissions
        self._wake = wake
        self._clock = clock

    async def all(self) -> list[OperatedTask]:
        """Return all tasks with their state."""
        states = await self._pauses.states()
        return [self._operated(task, states.get(task.name, TaskState())) for task in self._tasks.values()]

    async def get(self, name: str) -> OperatedTask:
        """Return a task with its state. Raises TaskNotFound."""
        states = await self._pauses.states()
        return self._operated(self._known(name), states.get(name, TaskState()))

    async def pause(self, name: str) -> OperatedTask:
        """Let no process start a job of this task until `resume`. Jobs that run go on. Raises TaskNotFound."""
        self._known(name)
        await self._pauses.pause(name, timestamp(self._clock()))
        self._wake()
        return await self.get(name)

    async def resume(self, name: str) -> OperatedTask:
        """Let the jobs of this task start again. Raises TaskNotFound."""
        self._known(name)
        await self._pauses.resume(name, timestamp(self._clock()))
        self._wake()
        return await self.get(name)

    async def run(self, name: str, *, key: JobKey | None = None) -> JobRecord:
        """Submit a job of a scheduled task, as its schedule does: with its defaults, and without an owner.

        Raises TaskNotFound, TaskUnscheduled, and the errors of `Submissions.submit`.
        """
        task = self._known(name)
        if task.schedule is None:
            raise TaskUnscheduled(f"the task {name} has no schedule: submit a job of it instead")
        job = await self._submissions.submit(task, task.arguments(), key=key)
        await self._pauses.started(name, job.created_at)
        return job

    def _known(self, name: str) -> Task:
        if (task := self._tasks.get(name)) is None:
            raise TaskNotFound(f"no task has the name {name!r}; the tasks are {', '.join(sorted(self._tasks))}")
        return task

    def _operated(self, task: Task, state: TaskState) -> OperatedTask:
        following = None
        if task.schedule is not None and state.paused_at is None:
            following = timestamp(croniter(task.schedule, self._clock()).get_next(datetime))
        return OperatedTask(task, state.paused_at, following, state.last_run_at)
