"""Jobs for callers: submit, wait, cancel, retry. Independent of HTTP."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel

from ..access.caller import ANYONE, Caller
from ..db.group_commit import Unit
from ..errors import FieldError, InvalidInput, JobEnded
from ..jobs.events import EventFeed
from ..jobs.ids import new_id
from ..jobs.outcomes import is_finite
from ..jobs.runs import Runs
from ..jobs.states import JobRecord, Status
from ..jobs.store import JobStore
from ..jobs.submission import New
from ..jobs.transitions import CancelAnswer
from ..jobs.usage import Quota
from ..lifecycle import Lifecycle
from ..moments import Clock, timestamp, utc_now
from ..observability.tracing import traceparent_of_job
from ..settings import Settings
from ..tasks import Task
from ..validation import checked


class JobKey(Protocol):
    """An Idempotency-Key, whose answer is stored with the job that it starts."""

    def size(self, job: JobRecord) -> int:
        """Return the size of the stored answer in bytes."""

    def remember(self, job: JobRecord, now: str) -> Unit[bool]:
        """Store the answer in the transaction of the job. Return False, and write nothing, if the key is taken."""


@dataclass(frozen=True, slots=True)
class Callback:
    """The callback of a job. `url` has been checked; `events` are types such as `job.succeeded`."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a job. None: the task's default. `run_at` in the past means now. `timeout` is in seconds per attempt."""

    priority: int = 0
    run_at: datetime | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    callback: Callback | None = None


class Submissions:
    def __init__(
        self,
        tasks: Mapping[str, Task],
        store: JobStore,
        feed: EventFeed,
        lifecycle: Lifecycle,
        settings: Settings,
        runs: Runs,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._tasks = tasks
        self._runs = runs
        self._store = store
        self._feed = feed
        self._lifecycle = lifecycle
        self._settings = settings
        self._quota = Quota(0, settings.kept_jobs, settings.kept_bytes)
        self._quota_of_key = Quota(settings.job_quota, settings.kept_jobs, settings.kept_bytes)
        self._clock = clock

    async def submit(
        self,
        task: Task,
        arguments: BaseModel,
        options: Options = Options(),
        *,
        caller: Caller = ANYONE,
        key: JobKey | None = None,
        spare: int = 0,
    ) -> JobRecord:
        """Make a job, committed when this returns, together with `key` and its answer. `spare`: places beyond the limits.

        Raises ShuttingDown, QueueFull, QuotaExceeded, InvalidInput, DatabaseUnavailable, KeyTaken.
        """
        self._lifecycle.admit()
        return await self.insert(self.prepared(task, arguments, options, caller=caller, key=key), spare)

    def prepared(
        self,
        task: Task,
        arguments: BaseModel,
        options: Options = Options(),
        *,
        caller: Caller = ANYONE,
        key: JobKey | None = None,
    ) -> New:
        """Make a job that is not inserted yet, with its limits. Raises InvalidInput."""
        return self.new(self._record(task, arguments, options, caller.key_id), key)

    async def insert(self, new: New, spare: int = 0) -> JobRecord:
        """Insert a job, committed when this returns. Raises QueueFull, QuotaExceeded, DatabaseUnavailable, KeyTaken."""
        quota = new.quota if not new.quota.unfinished else replace(new.quota, unfinished=new.quota.unfinished + spare)
        await self._store.submission.insert(new.job, new.queue_limit + spare, quota=quota, key=new.key)
        return new.job

    def new(self, job: JobRecord, key: JobKey | None = None) -> New:
        """Return a new job with its limits."""
        quota = self._quota if job.owner is None else self._quota_of_key
        remembered = None if key is None else (key.size(job), partial(key.remember, job, job.created_at))
        return New(job, self._settings.job_queue_limit, quota, remembered)

    def _record(
        self,
        task: Task,
        arguments: BaseModel,
        options: Options,
        owner: str | None,
        *,
        retry_of: str | None = None,
        now: datetime | None = None,
    ) -> JobRecord:
        try:
            args = arguments.model_dump_json()
        except ValueError:  # a lone surrogate, which UTF-8 cannot encode
            raise InvalidInput(FieldError("#/args", "Must be text that can be written as UTF-8")) from None
        if "null" in args and not is_finite(arguments.model_dump()):  # 1e400 in a field of any type
            raise InvalidInput(FieldError("#/args", "Must hold no number that is too large for a float"))
        if len(args.encode()) > self._settings.result_max_bytes:
            raise InvalidInput(FieldError("#/args", f"At most {self._settings.result_max_bytes} bytes of JSON"))
        now = now or self._clock()
        created_at = timestamp(now)
        return JobRecord(
            id=new_id(now),
            task=task.name,
            status=Status.QUEUED,
            args=args,
            urgency=-options.priority,
            max_attempts=options.max_attempts or task.retries + 1,
            timeout=options.timeout or task.timeout,
            created_at=created_at,
            run_at=created_at if options.run_at is None else timestamp(max(now, options.run_at)),
            retry_of=retry_of,
            traceparent=traceparent_of_job(),
            owner=owner,
            callback_url=options.callback.url if options.callback else None,
            callback_events=",".join(options.callback.events) if options.callback else None,
            slot=task.slot(arguments),
            slot_limit=task.concurrency,
        )

    async def wait(self, job_id: str, seconds: float, caller: Caller = ANYONE) -> JobRecord:
        """Wait until the job has ended, for at most `seconds`, and not while the service stops. Return the job as it is then.

        Raises JobNotFound, JobExpired.
        """
        async with self._feed.wait(job_id) as waiter:
            running = self._runs.running(
                job_id
            )  # then the end of the run wakes the waiter, and it need not be read before
            is_here = running is not None and caller.sees in (None, running.owner)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self._lifecycle.draining.is_set():
                        if not is_here:
                            job = await self._store.reading.get(job_id, caller.sees)
                            if job.status.is_terminal:
                                return job
                        is_here = False
                        await waiter.woken()
                        if waiter.job is not None:
                            return waiter.job
            return await self._store.reading.get(job_id, caller.sees)

    async def cancel(self, job_id: str, caller: Caller = ANYONE) -> tuple[CancelAnswer, JobRecord]:
        """Cancel a queued job at once, or ask a running job to stop. Raises JobNotFound, JobExpired, JobEnded."""
        await self._store.reading.get(job_id, caller.sees)
        answer, job = await self._store.transitions.cancel(job_id, timestamp(self._clock()), self._settings.result_ttl)
        if answer is CancelAnswer.ENDED:
            raise JobEnded(f"the job has {job.status} already")
        self._feed.notify()
        return answer, job

    async def retry(
        self,
        job_id: str,
        caller: Caller = ANYONE,
        *,
        args: Mapping[str, Any] | None = None,
        key: JobKey | None = None,
    ) -> JobRecord:
        """Run a failed or cancelled job again, as a new job with the same owner and callback. With `args`, run any ended job
        again with these arguments instead.

        Raises JobNotFound, JobExpired, JobEnded, InvalidInput, Unreadable.
        """
        job = await self._store.reading.get(job_id, caller.sees)
        if not job.status.is_terminal:
            raise JobEnded(f"only a job that has ended can be retried; this one is {job.status}")
        if job.status is Status.SUCCEEDED and args is None:
            raise JobEnded(
                "only a failed or cancelled job can be retried with the same arguments; this one has succeeded"
            )
        self._lifecycle.admit()
        return await self.insert(self.new(self.again(job, args), key))

    def again(self, job: JobRecord, args: Mapping[str, Any] | None = None, now: datetime | None = None) -> JobRecord:
        """Return a new job that runs an ended one again, with `args` if given, created `now`.

        It belongs to the owner of the first one. Raises JobEnded, InvalidInput, Unreadable.
        """
        task = self._tasks.get(job.task)
        if task is None:
            raise JobEnded(f"this service has no task {job.task!r} any longer")
        callback = (
            Callback(job.callback_url, tuple((job.callback_events or "").split(","))) if job.callback_url else None
        )
        options = Options(-job.urgency, None, job.timeout, job.max_attempts, callback)
        arguments = (
            checked(task.arguments, job.part("args"), "#/args", stored=True)
            if args is None
            else self.arguments(task, args)
        )
        return self._record(task, arguments, options, job.owner, retry_of=job.id, now=now)

    def notify(self) -> None:
        """Wake those who watch jobs: some have changed."""
        self._feed.notify()

    def task(self, name: str) -> Task:
        """Return the task of this name. Raises InvalidInput."""
        try:
            return self._tasks[name]
        except KeyError:
            known = ", ".join(sorted(self._tasks))
            raise InvalidInput(FieldError("#/task", f"No task has this name; the tasks are {known}")) from None

    def arguments(self, task: Task, sent: object) -> BaseModel:
        """Return `sent` as arguments of the task. Raises InvalidInput."""
        return checked(task.arguments, sent, "#/args")

    def not_before(self, delay: float | None, run_at: datetime | None) -> datetime | None:
        """Return the earliest start of a job: `delay` seconds from now, or `run_at`.

        Raises InvalidInput past `QAA_MAX_DELAY`.
        """
        now, most = self._clock(), self._settings.max_delay
        moment = run_at if delay is None else now + timedelta(seconds=delay)
        if moment is not None and moment > now + timedelta(seconds=most):
            name = "run_at" if delay is None else "delay"
            raise InvalidInput(FieldError(f"#/{name}", f"At most {most:.0f} seconds from now"))
        return moment

    def later(self, seconds: float) -> datetime:
        """Return the moment in `seconds` from now."""
        return self._clock() + timedelta(seconds=seconds)
