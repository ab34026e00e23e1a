"""Writes how runs end: repeats each write until the database accepts it, and logs the end once it is written."""

import asyncio
import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..db.failures import as_unavailable
from ..errors import ResultUnusable, TaskCrashed, TaskFailed
from ..moments import Clock, later, timestamp
from ..problem_types import describe
from ..settings import Settings
from ..tasks import Task
from .events import EventFeed
from .outcomes import Failed, Outcome, Succeeded, Unready
from .readiness import Readiness
from .run import Reason, Run
from .run_log import RunLog, shown_traceback
from .states import JobRecord, Status
from .store import JobStore

log = logging.getLogger(__name__)

RETRY_WRITE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class OutcomeWriter:
    """The writer of one process, for all its runs."""

    store: JobStore
    feed: EventFeed
    tasks: Mapping[str, Task]
    settings: Settings
    readiness: Readiness
    clock: Clock
    chance: random.Random = field(default_factory=random.SystemRandom)

    async def write(self, run: Run, outcome: Outcome | None) -> None:
        """Write the outcome of a run, for as long as that takes.

        An outcome that cannot be written is a failure; where that cannot be written either, the run counts as crashed.
        """
        writes = [
            lambda: self._write(run, outcome),
            lambda: self._write(run, Failed.by(ResultUnusable("the outcome cannot be stored"))),
            lambda: self.crash(run.job.id, run.token),
        ]
        waits_for: type[Exception] | None = None
        while True:
            try:
                await writes[0]()
                return
            except Exception as error:
                if as_unavailable(error) is None and len(writes) > 1:
                    log.exception("the outcome of job %s cannot be written", run.job.id)
                    del writes[0]
                    continue
                if type(error) is not waits_for:
                    log.warning("the outcome of job %s waits: %s", run.job.id, error)
                waits_for = type(error)
                await asyncio.sleep(RETRY_WRITE_SECONDS)

    async def _write(self, run: Run, outcome: Outcome | None) -> None:
        job, now, ttl = run.job, timestamp(self.clock()), self.settings.result_ttl
        write, progress = self.store.transitions, run.context.last_progress()
        match outcome, run.reason:
            case _, Reason.LOST:
                self.store.log.ended(job, "lost", now, level=logging.WARNING)  # another worker may have the job
            case Succeeded(result), _:
                await self._finish(run, Status.SUCCEEDED, now, result=result)
            case Failed(error, retryable=True, cause=cause), None if job.failures + 1 < job.max_attempts:
                again = later(now, self.tasks[job.task].backoff.delay(job.failures + 1, self.chance))
                shown = shown_traceback(cause)
                retried = await write.retry(
                    job.id, run.token, now, again, error, ttl, progress=progress, traceback=shown
                )
                if retried is not None and retried.status is Status.QUEUED:
                    _report(self.store.log, job, now, outcome, again)
                else:
                    self._cancelled(job, retried, now)
            case Unready(resource), None:
                self.readiness.put_off(job, resource)
                await self._give_back(run, now)
            case _, Reason.SHUTDOWN:
                await self._give_back(run, now)
            case _, Reason.CANCELLED:
                await self._finish(run, Status.CANCELLED, now)
            case _:
                failed = outcome if isinstance(outcome, Failed) else Failed.by(TaskFailed("the task cancelled itself"))
                await self._finish(run, Status.FAILED, now, failed=failed)

    async def _give_back(self, run: Run, now: str) -> None:
        ttl, progress = self.settings.result_ttl, run.context.last_progress()
        given = await self.store.transitions.give_back(run.job.id, run.token, now, ttl, progress=progress)
        if given is not None and given.status is Status.QUEUED:
            self.store.log.ended(run.job, "returned", now)
        else:
            self._cancelled(run.job, given, now)

    def _cancelled(self, run: JobRecord, ended: JobRecord | None, now: str) -> None:
        """Log a run that would run again, but for a cancellation. None: another worker has it, and nothing was written."""
        if ended is not None:
            self.store.log.ended(run, "cancelled", now, ended_as=Status.CANCELLED)

    async def _finish(
        self, run: Run, status: Status, now: str, *, result: str | None = None, failed: Failed | None = None
    ) -> None:
        ended = await self.store.transitions.finish(
            run.job.id,
            run.token,
            status,
            now,
            self.settings.result_ttl,
            result=result,
            error=None if failed is None else failed.error,
            failed_attempt=failed is not None,
            progress=run.context.last_progress(),
            traceback=None if failed is None else shown_traceback(failed.cause),
            known=run.job,
        )
        if ended is None:
            return
        self.feed.ended(ended)
        if failed is None:
            self.store.log.ended(run.job, status.value, now, ended_as=status)
        else:
            _report(self.store.log, run.job, now, failed, None)

    async def crash(self, job_id: str, token: str) -> None:
        """End a run as if its process had died. Raises DatabaseUnavailable."""
        limit, ttl = self.settings.crash_limit, self.settings.result_ttl
        crashed = json.dumps(describe(TaskCrashed("its outcome could not be written")))
        await self.store.crashes.crash(job_id, token, timestamp(self.clock()), ttl, limit, crashed)


def _report(log: RunLog, job: JobRecord, now: str, failed: Failed, again: str | None) -> None:
    """Log a failed attempt, once it is written. `again` is when the next one begins."""
    log.ended(
        job,
        "failed",
        now,
        level=logging.ERROR if again is None else logging.WARNING,
        verb="failed for good" if again is None else "failed",
        about=f"{'' if again is None else f', and runs again at {again}'}: {failed.reason}",
        cause=failed.cause,
        retried=again is not None,
        ended_as=Status.FAILED if again is None else None,
        kind=failed.kind,
    )
