"""Ends runs whose process has died or whose outcome cannot be written. Their jobs run again, up to the crash limit."""

import logging
from functools import partial

from ..db.failures import as_unavailable
from ..db.group_commit import Unit, in_step
from ..errors import TaskCrashed
from ..moments import later
from ..problem_types import type_of
from . import sql, workers
from .ends import End, end_attempt, end_job
from .reading import Reading
from .run_log import RunLog
from .states import JobRecord, Status
from .units import Changes, JobUnits

log = logging.getLogger(__name__)

_KIND = type_of(TaskCrashed).slug

_Crash = tuple[JobRecord, JobRecord]  # the job as it ran, and as it is now


class Crashes:
    """Crashes on one database. Times are arguments (timestamps): no method reads the clock."""

    def __init__(self, units: JobUnits, reading: Reading, log: RunLog) -> None:
        self._units = units
        self._reading = reading
        self._log = log

    async def bury(
        self, worker: str, now: str, ttl: float, crash_limit: int, crashed: str, *, beat: int | None = None
    ) -> int | None:
        """Declare a worker dead and end its runs. Their jobs run again, unless they have crashed `crash_limit` times.

        `crashed` is the problem, as JSON, of a job at the limit. `beat`: the last heartbeat seen; a worker that has sent
        another since is alive. Returns the number of running jobs of the worker, or None if it was not declared dead.
        """

        def unit(changes: Changes) -> Unit[list[_Crash] | None]:
            if not (yield from workers.struck_off(worker, beat)):
                return None
            left = yield (
                f"SELECT {sql.ALL} FROM jobs WHERE status = 'running' AND worker = ? ORDER BY id /*FOR UPDATE*/",
                (worker,),
            )
            jobs = [sql.record(row) for row in left.rows]
            ended = yield from in_step(
                _crashed(changes, job, now, later(now, ttl), crash_limit, crashed) for job in jobs
            )
            return list(zip(jobs, ended, strict=True))

        alone = 0
        try:
            left = await self._units.run(unit)
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            # One of the runs cannot be written: end each in its own unit, so that the others can end.
            for run in await self._reading.runs(worker):
                alone += await self.crash(run.job_id, run.token, now, ttl, crash_limit, crashed, dead=(worker, beat))
            left = await self._units.run(unit)
        return None if left is None else alone + self._reported(left, now)

    async def crash(
        self,
        job_id: str,
        token: str,
        now: str,
        ttl: float,
        crash_limit: int,
        crashed: str,
        *,
        dead: tuple[str, int | None] | None = None,
    ) -> int:
        """End a run as if its process had died, because its outcome cannot be written or its process is gone.

        If its history cannot be written either, write only the row of the job. `dead`: its worker, with the last heartbeat
        seen: one that has sent another since keeps the run. Returns the number of runs that ended (0 or 1).
        """

        def unit(changes: Changes, *, bare: bool) -> Unit[list[_Crash]]:
            if dead is not None and not (yield from workers.is_silent(*dead)):
                return []
            run = yield (
                f"SELECT {sql.ALL} FROM jobs WHERE id = ? AND run_token = ? AND status = 'running' /*FOR UPDATE*/",
                (job_id, token),
            )
            jobs: list[_Crash] = []
            for row in run.rows:
                job, expires_at = sql.record(row), later(now, ttl)
                jobs += [(job, (yield from _crashed(changes, job, now, expires_at, crash_limit, crashed, bare=bare)))]
            return jobs

        try:
            return self._reported(await self._units.run(partial(unit, bare=False)), now)
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            log.exception("the history of job %s cannot be written: it lacks this crash", job_id)
            return self._reported(await self._units.run(partial(unit, bare=True)), now)

    def _reported(self, crashes: list[_Crash], now: str) -> int:
        """Log the attempts that have crashed. Return their number."""
        for run, job in crashes:
            if job.status is Status.FAILED:
                about = f": the job failed for good, it has crashed {job.crashes} times"
                self._log.ended(run, "crashed", now, level=logging.ERROR, about=about, ended_as=job.status, kind=_KIND)
            else:
                about = ", and the job runs again" if job.status is Status.QUEUED else ""
                ended_as = job.status if job.status.is_terminal else None
                self._log.ended(run, "crashed", now, level=logging.WARNING, about=about, ended_as=ended_as, kind=_KIND)
        return len(crashes)


def _crashed(
    changes: Changes, job: JobRecord, now: str, expires_at: str, crash_limit: int, crashed: str, *, bare: bool = False
) -> Unit[JobRecord]:
    """Count the crash. The job runs again, unless it has reached `crash_limit`. `bare`: write only its row.

    Returns the updated job.
    """
    is_over = job.crashes + 1 >= crash_limit
    if job.cancel_requested_at or is_over:
        status, error = (Status.CANCELLED, None) if job.cancel_requested_at else (Status.FAILED, crashed)
        end = End(job.id, job.run_token or "", status, now, expires_at, error=error, crashes=1, bare=bare)
        return (yield from end_job(changes, end)) or job
    requeued = yield (
        "UPDATE jobs SET status = 'queued', stage = 'ready', crashes = crashes + 1, run_token = NULL, worker = NULL, "
        f"last_event = last_event + 1 WHERE id = ? RETURNING {sql.ALL}",
        (job.id,),
    )
    again = sql.record(requeued.rows[0])
    yield from changes.queued(again)
    if not bare:
        yield from end_attempt(again, now, "crashed", None, now)
    return again
