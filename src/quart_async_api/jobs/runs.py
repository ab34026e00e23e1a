"""The life of each run: claimed, begun, stopped or abandoned, and written.

Every engine begins its runs here. `Presence` sends the heartbeat for all runs of a process.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..background.loops import Loop, until_set
from ..background.tasks import BackgroundTasks
from ..db.failures import as_unavailable
from ..errors import TaskFailed, TaskTimeout
from ..moments import Clock, timestamp, utc_now
from ..observability.tracing import RunContext, enter
from ..settings import Settings
from ..tasks import Task
from .claims import Exchange, Take
from .context import JobContext
from .events import EventFeed
from .ids import new_id
from .outcome_writer import OutcomeWriter
from .outcomes import Failed, Outcome, attempt
from .presence import Presence
from .readiness import Readiness
from .run import Reason, Run
from .run_log import fields
from .states import JobRecord, Status
from .store import JobStore

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5  # how late a cancellation by another process is seen, if its wake-up is lost
FAREWELL_SECONDS = 0.25  # for a run to end, and again for its outcome to be written, when the process stops


class Runs:
    """The runs of this process. `on_ended` is called after each run has ended, with any outcome."""

    def __init__(
        self,
        store: JobStore,
        feed: EventFeed,
        tasks: Mapping[str, Task],
        settings: Settings,
        resources: Mapping[type, object],
        presence: Presence,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self.store = store
        self.feed = feed
        self.tasks = tasks
        self._settings = settings
        self._resources = resources
        self.presence = presence
        presence.on_lost.append(self._lose_everything)
        presence.on_buried.append(lambda worker: feed.notify())
        self.clock = clock
        self.readiness = Readiness(tuple(tasks), store.pauses)
        self._writer = OutcomeWriter(store, feed, tasks, settings, self.readiness, clock)
        # By their tokens: a job that was lost may be back while its old run still ends.
        self._runs: dict[str, Run] = {}
        self._newest: dict[str, Run] = {}  # by the ids of their jobs
        self._reserved: set[str] = set()  # tokens of runs that begin with the commit of their job
        self._none_reserved = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._background = BackgroundTasks()
        self._open = True
        self.on_ended: Callable[[], None] = lambda: None
        self.loop = Loop("check of runs", self._compare, every=CHECK_SECONDS)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def jobs(self) -> list[JobRecord]:
        """The jobs that this process runs, as they were claimed."""
        return [run.job for run in self._runs.values()]

    @property
    def free(self) -> int:
        """The number of runs that may begin in this process."""
        return self._settings.job_concurrency - len(self._runs) - len(self._reserved)

    def now(self) -> str:
        return timestamp(self.clock())

    def running(self, job_id: str) -> JobRecord | None:
        """Return the job as it was when its run here began, or None. Any end of the run wakes those who wait for the job."""
        run = self._newest.get(job_id)
        return None if run is None else run.job

    def start(self) -> None:
        """Start the check of runs. Call it in a context that is bound to the database and to no request."""
        self._background = BackgroundTasks()
        self._background.spawn(self.loop.run(), name=self.loop.name)

    # Claimed

    async def claim(self, limit: int) -> int:
        """Begin at most `limit` due jobs. Return their number. Raises DatabaseUnavailable."""
        async with self._claiming:
            claimed = await self.store.claims.claim(self.readiness.tasks, limit, self.presence.id, self.now(), new_id)
            for job in claimed:
                self._begin(job)
        return len(claimed)

    async def take_tickets(self, limit: int, take: Take, exchange: Exchange) -> tuple[int, int]:
        """Take at most `limit` due tickets, and begin the jobs whose turn it is. Return the numbers of tickets and of jobs.

        Raises DatabaseUnavailable.
        """
        async with self._claiming:
            taken, claimed = await self.store.claims.claim_by_tickets(
                self.readiness.tasks, limit, self.presence.id, self.now, new_id, take, exchange
            )
            for job in claimed:
                self._begin(job)
        return taken, len(claimed)

    def reserve(self, job: JobRecord) -> JobRecord | None:
        """Return a new job as a run of this worker, and keep a place for it until `settle`; None if the job has to line up."""
        is_delayed = job.run_at > job.created_at
        if (
            not (self._open and self.readiness.includes(job.task) and self.free > 0)
            or is_delayed
            or job.slot is not None
        ):
            return None
        token = new_id()
        self._reserved.add(token)
        self._none_reserved.clear()
        return job._replace(
            status=Status.RUNNING,
            stage="running",
            turn=0,
            attempt=1,
            started_at=job.run_at,
            run_token=token,
            worker=self.presence.id,
        )

    def settle(self, run: JobRecord, *, begins: bool) -> None:
        """Begin a reserved run, or give its place back."""
        if begins:
            # Its body starts a round of the loop later than its caller goes on: a body that blocks the loop blocks no 202.
            asyncio.get_running_loop().call_soon(self._begin_reserved, run)
        else:
            self._free(run)
            self.on_ended()

    def _begin_reserved(self, run: JobRecord) -> None:
        self._begin(run)
        self._free(run)

    def _free(self, run: JobRecord) -> None:
        self._reserved.discard(run.run_token or "")
        if not self._reserved:
            self._none_reserved.set()

    async def _compare(self) -> None:
        """Give back the jobs that this worker has claimed and does not run, and stop runs whose cancellation was requested.

        A claimed job has no run if the answer to its commit was lost.
        """
        async with self._claiming:
            claimed = await self.store.reading.runs(self.presence.id)
            for run in claimed:
                if run.token not in self._runs and run.token not in self._reserved:
                    await self._give_back(run.job_id, run.token)
        for run in claimed:
            if run.cancelled:
                self.cancel(run.job_id)

    async def _give_back(self, job_id: str, token: str) -> None:
        now = self.now()
        try:
            given = await self.store.transitions.give_back(job_id, token, now, self._settings.result_ttl)
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            await self._writer.crash(job_id, token)
        else:
            if given is not None and given.status is Status.CANCELLED:
                self.store.log.ended(given, "cancelled", now, worker=self.presence.id, ended_as=given.status)

    # Running

    def _begin(self, job: JobRecord) -> Run:
        async def say(name: str, data: Mapping[str, Any], progress: str | None) -> None:
            if await self.store.transitions.record(
                job.id, run.token, self.now(), name, data, self._settings.job_max_events, progress=progress
            ):
                self.feed.notify()
            else:
                self._stop(run, Reason.LOST)

        within = self._background.context()
        within.run(enter, RunContext(job.id, job.traceparent, job.owner))
        check = self.store.database.refuse_if_held
        context = JobContext(job.id, job.attempt, self._settings, self._resources, check, say)
        run = Run(job, job.run_token or "", context, within)
        self._runs[run.token] = self._newest[job.id] = run
        run.task = self._background.spawn(self._live(run), name=f"job {job.id} ({job.task})", within=within)
        if job.timeout is not None:
            self._limit(run, job.timeout + self._settings.cancel_seconds)
        if not self._open:
            self._stop(run, Reason.SHUTDOWN)
        return run

    async def _live(self, run: Run) -> None:
        """Run the body, and write its outcome: None if the body was cancelled, by others or by itself."""
        job, outcome = run.job, None
        run.has_begun = True
        try:
            if run.reason is None:
                task, most = self.tasks[job.task], self._settings.result_max_bytes
                outcome = await attempt(task, run.context, job.args, job.timeout, most)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            outcome = Failed.by(TaskFailed("the task failed"), cause=error)
        if not run.is_over:  # else it was abandoned
            run.is_over = True
            await self._write_end(run, outcome)

    async def _write_end(self, run: Run, outcome: Outcome | None) -> None:
        if run.limit is not None:
            run.limit.cancel()
        if run.life.done():
            return
        await self._writer.write(run, outcome)
        del self._runs[run.token]
        if self._newest.get(run.job.id) is run:
            del self._newest[run.job.id]
        self.feed.left(run.job.id)
        self.feed.notify()
        self.on_ended()
        if not run.life.done():
            run.life.set_result(None)

    def _limit(self, run: Run, seconds: float) -> None:
        """Abandon the run after so many seconds, or at an earlier limit that is already set."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if run.limit is not None:
            at = min(at, run.limit.when())
            run.limit.cancel()
        run.limit = loop.call_at(at, self._abandon, run, context=run.within)

    def cancel(self, job_id: str) -> bool:
        """Stop the run of this job: its cancellation was requested. Return False if this process has no such run."""
        runs = [run for run in self._runs.values() if run.job.id == job_id]
        for run in runs:
            self._stop(run, Reason.CANCELLED)
        return bool(runs)

    def let_go(self) -> None:
        """Stop all runs without writing an outcome: other workers may run these jobs. Later, `_compare` gives back the rest."""
        for run in list(self._runs.values()):
            self._stop(run, Reason.LOST)

    def _lose_everything(self) -> None:
        for run in list(self._runs.values()):
            if run.job.worker != self.presence.id:
                self._stop(run, Reason.LOST)

    def _stop(self, run: Run, reason: Reason) -> None:
        if run.reason is not None or run.is_over:
            return
        run.reason = reason
        run.context.cancelled = True
        if run.has_begun:
            run.task.cancel()
        patience = self._settings.cancel_seconds
        if reason is Reason.SHUTDOWN:
            patience = min(patience, FAREWELL_SECONDS)
        self._limit(run, patience)

    def _abandon(self, run: Run) -> None:
        if run.is_over:
            return
        run.is_over = True
        log.error("job %s (%s) does not stop: its run is abandoned", run.job.id, run.job.task, extra=fields(run.job))
        self._background.abandon(run.task)
        outcome = None
        if run.reason is None:
            timeout = TaskTimeout(f"the task took longer than {run.job.timeout:g} s")
            outcome = Failed.by(timeout, retryable=isinstance(timeout, self.tasks[run.job.task].retryable))
        writing = self._write_end(run, outcome)
        self._background.spawn(writing, name=f"outcome of job {run.job.id}", within=run.within)

    # Stopping

    async def drain(self, grace: float) -> None:
        """Wait `grace` seconds for the runs, then stop the others and give their jobs back."""
        began = time.monotonic()
        if self._reserved:
            await until_set(self._none_reserved, max(grace, FAREWELL_SECONDS))
        await self._until_written(grace - (time.monotonic() - began))
        for run in self._runs.values():
            self._stop(run, Reason.SHUTDOWN)
        await self._until_written(2 * FAREWELL_SECONDS)
        if self._runs:
            log.warning(
                "the database has not taken the ends of %d runs in time: each that is not written before this process ends "
                "counts as a crash, and its job runs again",
                len(self._runs),
            )

    async def until_idle(self) -> bool:
        """Wait until the present runs have ended. Return False if there is none."""
        if self._reserved:
            await self._none_reserved.wait()
        lives = [run.life for run in self._runs.values()]
        if lives:
            await asyncio.wait(lives)
        return bool(lives)

    def close(self) -> None:
        """Give back each job that begins from now on, without running it."""
        self._open = False

    async def stop(self) -> None:
        """Cancel the runs that have not ended by the end of `drain`."""
        self._open = False
        for run in self._runs.values():
            run.life.cancel()
        await self._background.close(grace=FAREWELL_SECONDS)

    async def _until_written(self, seconds: float) -> None:
        lives = [run.life for run in self._runs.values()]
        if lives and seconds > 0:
            await asyncio.wait(lives, timeout=seconds)
