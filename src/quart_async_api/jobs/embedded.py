"""The embedded engine: jobs run as asyncio tasks in this process, any number of which may share one database."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ..db.failures import as_unavailable
from ..db.group_commit import Statement
from ..errors import DatabaseUnavailable, ResultUnusable, TaskCrashed, TaskFailed, TaskTimeout
from ..problem_types import describe
from ..settings import Settings
from ..tasks import Task
from .background import BackgroundTasks
from .context import JobContext
from .events import EventFeed
from .ids import new_id
from .loop import Loop, each
from .outcomes import Failed, Succeeded, attempt
from .presence import Presence
from .states import JobRecord, Status, later, timestamp
from .store import JobStore

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.5  # how late the work of other processes is seen
RETRY_WRITE_SECONDS = 0.5
FAREWELL_SECONDS = 0.25  # for a run to end, and again for its outcome to be written, when the process stops


class Reason(StrEnum):
    """Why a run was told to stop."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class _Run:
    job: JobRecord
    ended: asyncio.Future[Succeeded | Failed | None]
    context: JobContext
    body: asyncio.Task[Succeeded | Failed] | None = None
    written: asyncio.Task[None] | None = None
    reason: Reason | None = None
    abandon: asyncio.TimerHandle | None = None
    overdue: asyncio.TimerHandle | None = None


class EmbeddedEngine:
    def __init__(
        self,
        store: JobStore,
        feed: EventFeed,
        tasks: Mapping[str, Task],
        settings: Settings,
        resources: Mapping[type, object],
        presence: Presence,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._feed = feed
        self._tasks = tasks
        self._settings = settings
        self._resources = resources
        self._presence = presence
        presence.on_lost.append(self._lose_everything)
        presence.on_buried.append(self._take_over)
        self._clock = clock
        self._random = random.SystemRandom()
        # By their tokens: a job that was lost may be back while its old run still ends.
        self._runs: dict[str, _Run] = {}
        self._claiming = asyncio.Lock()
        self._dispatching = Loop("dispatcher", self._dispatch, every=None)
        self._wake = self._dispatching.wake
        self.loops = (self._dispatching, Loop("sweep for jobs", self._sweep, every=SWEEP_SECONDS))
        self._dispatcher: asyncio.Task[None] | None = None
        self._open = True
        self._background = BackgroundTasks()
        self.abandoned = 0

    @property
    def running(self) -> int:
        return len(self._runs)

    def _now(self) -> str:
        return timestamp(self._clock())

    # The port

    async def start(self) -> None:
        self._background = BackgroundTasks()
        self._dispatcher, _ = (self._background.spawn(loop.run(), name=loop.name) for loop in self.loops)

    def enqueue(self, job: JobRecord) -> Iterable[Statement]:
        return ()

    def committed(self, job: JobRecord) -> None:
        wait = (datetime.fromisoformat(job.run_at) - self._clock()).total_seconds()
        if job.run_at > job.created_at and wait > 0:
            if wait < 3600:  # what is further off, the sweep will find
                asyncio.get_running_loop().call_later(wait, self._wake)
        else:
            self._wake()

    def cancel(self, job_id: str) -> None:
        for run in self._runs.values():
            if run.job.id == job_id:
                self._stop_run(run, Reason.CANCELLED)

    async def drain(self, grace: float) -> None:
        self._open = False
        self._dispatching.end()
        began = time.monotonic()
        if self._dispatcher is not None:  # what it claims right now, it gives back
            await asyncio.wait((self._dispatcher,), timeout=max(grace, FAREWELL_SECONDS))
        await self._until_written(grace - (time.monotonic() - began))
        for run in self._runs.values():
            self._stop_run(run, Reason.SHUTDOWN)
        await self._until_written(2 * FAREWELL_SECONDS)

    async def _until_written(self, seconds: float) -> None:
        written = [run.written for run in self._runs.values() if run.written is not None]
        if written and seconds > 0:
            await asyncio.wait(written, timeout=seconds)

    async def stop(self) -> None:
        self._open = False
        await self._background.close(grace=FAREWELL_SECONDS)

    # What this worker claimed

    def _lose_everything(self) -> None:
        for run in list(self._runs.values()):
            if run.job.worker != self._presence.id:
                self._stop_run(run, Reason.LOST)
        self._wake()

    def _take_over(self, worker: str) -> None:
        self._feed.notify()
        self._wake()

    async def _sweep(self) -> None:
        await each((self._look_after_runs, self._look_for_work))

    async def _look_for_work(self) -> None:
        if await self._store.is_due(tuple(self._tasks), self._now()):
            self._wake()

    async def _look_after_runs(self) -> None:
        async with self._claiming:
            runs = await self._store.runs(self._presence.id)
            for run in runs:
                if run.token not in self._runs:
                    # Claimed by a transaction whose commit was not heard of: nobody runs it.
                    await self._give_back(run.job_id, run.token)
                    self._wake()
        for run in runs:
            if run.cancelled:
                self.cancel(run.job_id)

    async def _give_back(self, job_id: str, token: str) -> None:
        try:
            await self._store.give_back(job_id, token, self._now(), self._settings.result_ttl)
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            await self._crash(job_id, token)

    async def _crash(self, job_id: str, token: str) -> None:
        limit, ttl = self._settings.crash_limit, self._settings.result_ttl
        crashed = json.dumps(describe(TaskCrashed("its outcome could not be written")))
        await self._store.crash(job_id, token, self._now(), ttl, limit, crashed)

    # Running

    async def _dispatch(self) -> None:
        while self._open and (free := self._settings.job_concurrency - len(self._runs)) > 0:
            async with self._claiming:
                claimed = await self._store.claim(tuple(self._tasks), free, self._presence.id, self._now(), new_id)
                for job in claimed:
                    self._start_run(job)
            if len(claimed) < free:
                return

    def _start_run(self, job: JobRecord) -> None:
        async def say(name: str, data: Mapping[str, Any], progress: str | None) -> None:
            if await self._store.record(
                job.id, job.run_token or "", self._now(), name, data, self._settings.job_max_events, progress=progress
            ):
                self._feed.notify()
            else:
                self._stop_run(run, Reason.LOST)

        context = JobContext(job.id, job.attempt, self._settings, self._resources, say)
        run = _Run(job, asyncio.get_running_loop().create_future(), context)
        self._runs[job.run_token or ""] = run
        body = attempt(self._tasks[job.task], context, job.args, job.timeout, self._settings.result_max_bytes)
        run.body = self._background.spawn(body, name=f"job {job.id} ({job.task})")
        run.body.add_done_callback(lambda body: self._body_done(run, body))
        run.written = self._background.spawn(self._see_through(run), name=f"outcome of job {job.id}")
        if job.timeout is not None:
            patience = job.timeout + self._settings.cancel_seconds
            run.overdue = asyncio.get_running_loop().call_later(patience, self._abandon, run)
        if not self._open:
            self._stop_run(run, Reason.SHUTDOWN)

    def _body_done(self, run: _Run, body: asyncio.Task[Succeeded | Failed]) -> None:
        for timer in (run.abandon, run.overdue):
            if timer is not None:
                timer.cancel()
        outcome = None if body.cancelled() or body.exception() is not None else body.result()
        if not run.ended.done():
            run.ended.set_result(outcome)

    def _stop_run(self, run: _Run, reason: Reason) -> None:
        if run.reason is not None or run.body is None or run.ended.done():
            return
        run.reason = reason
        run.context.cancelled = True
        run.body.cancel()
        patience = self._settings.cancel_seconds
        if reason is Reason.SHUTDOWN:
            patience = min(patience, FAREWELL_SECONDS)
        run.abandon = asyncio.get_running_loop().call_later(patience, self._abandon, run)

    def _abandon(self, run: _Run) -> None:
        if run.ended.done() or run.body is None:
            return
        log.error("job %s (%s) does not stop: its run is abandoned", run.job.id, run.job.task)
        self.abandoned += 1
        outcome: Failed | None = None
        if run.reason is None:
            error = json.dumps(describe(TaskTimeout(f"the task took longer than {run.job.timeout:g} s")))
            outcome = Failed(error, issubclass(TaskTimeout, self._tasks[run.job.task].retryable))
        run.ended.set_result(outcome)
        self._background.abandon(run.body)

    async def _see_through(self, run: _Run) -> None:
        """Write the outcome of a run, for as long as that takes, and free its slot.

        An outcome that cannot be written is a failure; where that cannot be written either, the run counts as crashed.
        """
        outcome = await run.ended
        token = run.job.run_token or ""
        unstorable = Failed(json.dumps(describe(ResultUnusable("the outcome cannot be stored"))), retryable=False)
        writes = [
            lambda: self._write(run, outcome),
            lambda: self._write(run, unstorable),
            lambda: self._crash(run.job.id, token),
        ]
        waits_for: type[Exception] | None = None
        while True:
            try:
                await writes[0]()
                break
            except Exception as error:
                if as_unavailable(error) is None and len(writes) > 1:
                    log.exception("the outcome of job %s cannot be written", run.job.id)
                    del writes[0]
                    continue
                if type(error) is not waits_for:
                    log.warning("the outcome of job %s waits: %s", run.job.id, error)
                waits_for = type(error)
                await asyncio.sleep(RETRY_WRITE_SECONDS)
        del self._runs[token]
        self._feed.notify()
        self._wake()

    async def _await_turn(self, job: JobRecord, wait: float) -> None:
        await asyncio.sleep(wait)
        now = self._now()
        if now < job.run_at:  # the clock was set back
            with suppress(DatabaseUnavailable):
                await self._store.hasten(job.id, job.run_at, now)
        self._wake()

    async def _write(self, run: _Run, outcome: Succeeded | Failed | None) -> None:
        job, token, now, ttl = run.job, run.job.run_token or "", self._now(), self._settings.result_ttl
        progress = run.context.last_progress()
        if run.reason is Reason.LOST:
            return
        if isinstance(outcome, Succeeded):
            await self._store.finish(
                job.id, token, Status.SUCCEEDED, now, ttl, result=outcome.result, progress=progress
            )
        elif isinstance(outcome, Failed) and run.reason is None:
            if outcome.retryable and job.failures + 1 < job.max_attempts:
                wait = self._tasks[job.task].backoff.delay(job.failures + 1, self._random)
                again = await self._store.retry(
                    job.id, token, now, later(now, wait), outcome.error, ttl, progress=progress
                )
                if again is not None and again.status is Status.QUEUED:
                    self._background.spawn(self._await_turn(again, wait), name=f"retry of job {job.id}")
            else:
                await self._store.finish(
                    job.id, token, Status.FAILED, now, ttl, error=outcome.error, failed_attempt=True, progress=progress
                )
        elif run.reason is Reason.SHUTDOWN:
            await self._store.give_back(job.id, token, now, ttl, progress=progress)
        elif run.reason is None:
            error = json.dumps(describe(TaskFailed("the task cancelled itself")))
            await self._store.finish(
                job.id, token, Status.FAILED, now, ttl, error=error, failed_attempt=True, progress=progress
            )
        else:
            await self._store.finish(job.id, token, Status.CANCELLED, now, ttl, progress=progress)
