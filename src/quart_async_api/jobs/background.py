"""Runs of tasks beyond their request: real asyncio tasks with an id, held strongly, ended in order at shutdown."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel

from ..errors import JobNotFound
from ..lifecycle import Lifecycle
from ..settings import Settings
from ..tasks import Task
from .ids import new_id

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

Resource = TypeVar("Resource")
KEPT = 1000


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Job:
    """One run of a task. Times are UTC."""

    id: str
    task: str
    created_at: datetime
    status: Status = Status.QUEUED
    progress: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None

    def document(self) -> dict[str, Any]:
        """The job as its callers see it; times as RFC 3339 with six digits, so that they sort as text."""
        document: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "status": self.status,
            "progress": self.progress,
            "created_at": _rfc3339(self.created_at),
            "started_at": _rfc3339(self.started_at),
            "finished_at": _rfc3339(self.finished_at),
            "links": {"self": f"/jobs/{self.id}"},
        }
        if self.status is Status.SUCCEEDED:
            document["result"] = self.result
        return document


@dataclass(slots=True)
class RunContext:
    """The TaskContext of one run; `job` is None where the caller waits and nobody else can watch."""

    job_id: str
    settings: Settings
    resources: Mapping[type, object]
    job: Job | None = None
    attempt: int = field(default=1)

    @property
    def http(self) -> "httpx.AsyncClient":
        from ..upstream.client import UpstreamClient

        return self.resource(UpstreamClient)

    def resource(self, kind: type[Resource]) -> Resource:
        try:
            return cast("Resource", self.resources[kind])
        except KeyError:
            raise LookupError(f"no {kind.__name__} was made at start") from None

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        if self.job is not None:
            percent = round(100 * current / total, 1) if total else None
            self.job.progress = {"current": current, "total": total, "percent": percent, "message": message}

    async def log(self, text: str) -> None:
        log.info("%s", text, extra={"job_id": self.job_id})


class BackgroundJobs:
    """Starts jobs and remembers the last of them."""

    def __init__(self, lifecycle: Lifecycle, settings: Settings, resources: Mapping[type, object]) -> None:
        self._lifecycle = lifecycle
        self._settings = settings
        self._resources = resources
        self._jobs: dict[str, Job] = {}

    def context(self, job_id: str, job: Job | None = None) -> RunContext:
        return RunContext(job_id, self._settings, self._resources, job)

    def start(self, task: Task, arguments: BaseModel) -> Job:
        """Run the task from now on, whatever becomes of the caller. Raises ShuttingDown."""
        job = Job(new_id(), task.name, datetime.now(UTC))
        self._lifecycle.spawn(self._run(job, task, arguments), name=f"job {job.id} ({task.name})")
        self._jobs[job.id] = job
        if len(self._jobs) > KEPT:
            del self._jobs[next(iter(self._jobs))]
        return job

    @property
    def count(self) -> int:
        """How many jobs are remembered."""
        return len(self._jobs)

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound("no job has this id") from None

    async def _run(self, job: Job, task: Task, arguments: BaseModel) -> None:
        job.status, job.started_at = Status.RUNNING, datetime.now(UTC)
        outcome = Status.CANCELLED
        try:
            job.result = task.result.dump_python(await task.run(self.context(job.id, job), arguments), mode="json")
            outcome = Status.SUCCEEDED
        except Exception:
            outcome = Status.FAILED
            raise
        finally:
            job.status, job.finished_at = outcome, datetime.now(UTC)


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
