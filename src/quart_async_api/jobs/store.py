"""Every query about jobs. What changes one is a unit of a group commit; what a run writes is fenced by its token."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from ..db.connection import Database
from ..db.failures import as_unavailable
from ..db.group_commit import GroupCommit, Rows, Statement, Unit
from ..errors import JobExpired, JobNotFound, KeyTaken, ServiceError
from . import queue, sql, usage
from .adoption import Adoption
from .history import History
from .ids import first_id
from .outbox import NoOutbox, Outbox
from .retention import Retention
from .states import JobRecord, Status, later, moment, shown_problem
from .usage import NO_QUOTA, Quota
from .workers import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt that runs; `cancelled` where someone wants it to be."""

    job_id: str
    token: str
    cancelled: bool


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"  # it was queued, and is no more
    REQUESTED = "requested"  # it runs, and will be told
    ENDED = "ended"  # it had ended already


class JobStore(Adoption, History, Retention, Workers):
    """The jobs of one database, and what happens to them. Times come in as timestamps; nothing here asks the clock."""

    def __init__(self, database: Database, commits: GroupCommit, outbox: Outbox | None = None) -> None:
        self._database = database
        self._commits = commits
        self._outbox = outbox or NoOutbox()

    # Submitting, and reading

    async def insert(
        self,
        job: JobRecord,
        queue_limit: int,
        *,
        quota: Quota = NO_QUOTA,
        first: Sequence[Statement] = (),
        also: Sequence[Statement] = (),
    ) -> None:
        """Insert the job, and do `also`, in one transaction; only if each statement of `first` changes a row.

        Raises KeyTaken where one does not, QueueFull where `queue_limit` jobs are queued already, QuotaExceeded where its owner
        would have more than `quota`; nothing is written then.
        """

        def unit() -> Unit[ServiceError | None]:
            # Refusals are returned, not raised: nothing is written yet, and the rest of the batch may go on.
            refusal = yield from usage.refusal(
                job.owner, queue_limit, quota, usage.size_of((sql.insert(job), *first, *also))
            )
            if refusal is not None:
                return refusal
            for statement in first:
                if (yield statement).count < 1:
                    return KeyTaken()
            yield from self._add(job, usage.size_of(also))
            for statement in also:
                yield statement
            return None

        if (refusal := await self._commits.run(unit)) is not None:
            raise refusal

    async def get(self, job_id: str, seen_by: str | None) -> JobRecord:
        """A job that belongs to the owner `seen_by`, or to whomever with None.

        Raises JobNotFound, of somebody else's too, or JobExpired with what is left of it; Unreadable.
        """
        if rows := await self._database.read(f"SELECT {sql.ALL} FROM jobs WHERE id = ?", job_id):
            if seen_by in (None, rows[0]["owner"]):
                return sql.record(rows[0])
            raise JobNotFound("no job has this id")
        left = await self._database.read("SELECT task, finished_at, owner FROM job_tombstones WHERE id = ?", job_id)
        if left and seen_by in (None, left[0]["owner"]):
            raise JobExpired(job_id, left[0]["task"], left[0]["finished_at"])
        raise JobNotFound("no job has this id")

    async def page(
        self,
        limit: int,
        seen_by: str | None,
        *,
        before: str | None = None,
        status: Status | None = None,
        task: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
    ) -> list[JobRecord]:
        """At most `limit` jobs of the owner `seen_by`, or of all, newest first, whose ids come before `before`.

        Arguments and results that are too long for a list are LEFT_OUT. A row that cannot be read is passed over.
        """
        wanted = [
            ("owner = ?", seen_by),
            ("status = ?", status and status.value),
            ("task = ?", task),
            ("created_at > ?", created_after),
            ("created_at < ?", created_before),
            # Ids begin with the moment, so that these two bound the walk, which goes by id.
            ("id >= ?", created_after and first_id(moment(created_after))),
            ("id < ?", created_before and first_id(moment(later(created_before, 0.001)))),
        ]
        found: list[JobRecord] = []
        # The second time without those that cannot be read, which the first has named: two queries, however many there are.
        for readable in ("1 = 1", sql.READABLE):
            given = [(condition, value) for condition, value in (*wanted, ("id < ?", before)) if value is not None]
            where = " AND ".join([readable, *(condition for condition, _ in given)])
            missing = limit - len(found)
            rows = await self._database.read(
                f"SELECT {sql.LISTED} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?",
                *(value for _, value in given),
                missing,
            )
            found += sql.records(rows)
            if len(rows) < missing or len(found) == limit:
                break
            before = rows[-1]["id"]
        return found

    async def unfinished(self, owner: str) -> list[str]:
        """The ids of an owner's jobs that are queued, or run and were not asked to stop."""
        rows = await self._database.read(
            "SELECT id FROM jobs WHERE owner = ? AND status IN ('queued', 'running') AND cancel_requested_at IS NULL",
            owner,
        )
        return [row["id"] for row in rows]

    async def attempts(self, job_id: str) -> Rows:
        """Its attempts that have ended, first to last."""
        rows = await self._database.read(
            "SELECT number, started_at, finished_at, outcome, error FROM job_attempts WHERE job_id = ? ORDER BY number",
            job_id,
        )
        return [row | {"error": shown_problem(row["error"], f"an attempt of job {job_id}")} for row in rows]

    # Running

    async def claim(
        self, tasks: Sequence[str], limit: int, worker: str, now: str, new_token: Callable[[], str]
    ) -> list[JobRecord]:
        """Take at most `limit` due jobs of `tasks` for `worker`, the most urgent first, of each owner in turn.

        Where very many come due at once, those due first are lined up first, and a claim does not wait for the rest.
        """

        def unit(*, may_wait: bool) -> Unit[list[JobRecord] | None]:
            alive = yield ("SELECT 1 FROM workers WHERE id = ?", (worker,))
            if not alive.rows:
                return []  # declared dead: what it claimed now, nobody would ever release
            if (yield from queue.promote(now)) and may_wait:
                return None  # the most urgent may be among those that are left
            claimed = []
            for job_id in (yield from queue.first(tasks, limit)):
                taken = yield (
                    "UPDATE jobs SET status = 'running', stage = 'running', attempt = attempt + 1, run_token = ?, "
                    f"worker = ?, started_at = ? WHERE id = ? AND stage = 'ready' AND status = 'queued' RETURNING {sql.ALL}",
                    (new_token(), worker, now, job_id),
                )
                claimed += [sql.record(row) for row in taken.rows]
            yield from queue.claimed(claimed)
            return claimed

        for more in reversed(range(queue.PROMOTING_UNITS)):
            claimed = await self._commits.run(partial(unit, may_wait=more > 0))
            if claimed is not None:
                return claimed
        return []

    async def record(
        self,
        job_id: str,
        token: str,
        now: str,
        name: str,
        data: Mapping[str, Any],
        max_events: int,
        *,
        progress: str | None = None,
    ) -> bool:
        """Add an event to a run, and set its progress where given. False where the run is no longer the token's.

        Past `max_events` the event is left out.
        """
        called_back = False

        def unit() -> Unit[bool]:
            nonlocal called_back
            number = yield (
                "UPDATE jobs SET last_event = last_event + 1, progress = COALESCE(?, progress) "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND last_event < ? "
                "RETURNING last_event, callback_events, owner",
                (progress, job_id, token, max_events),
            )
            if not number.rows:
                written = yield (
                    "UPDATE jobs SET progress = COALESCE(?, progress) "
                    "WHERE id = ? AND run_token = ? AND status = 'running'",
                    (progress, job_id, token),
                )
                return written.count > 0
            event = sql.event(job_id, number.rows[0]["last_event"], name, data, now)
            yield event
            size = usage.size_of((event,))
            if f"job.{name}" in (number.rows[0]["callback_events"] or ""):
                job = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (job_id,))
                size += yield from usage.weighed(self._outbox.tell(sql.record(job.rows[0]), name, now))
                called_back = True
            yield from usage.grown(job_id, number.rows[0]["owner"], size)
            return True

        written = await self._commits.run(unit)
        if called_back:
            self._outbox.committed()
        return written

    async def finish(
        self,
        job_id: str,
        token: str,
        status: Status,
        now: str,
        ttl: float,
        *,
        result: str | None = None,
        error: str | None = None,
        progress: str | None = None,
        failed_attempt: bool = False,
    ) -> JobRecord | None:
        """End the run and its job for good; None where the run is no longer the token's."""

        def unit() -> Unit[JobRecord | None]:
            return (
                yield from self._end(
                    job_id, token, status, now, later(now, ttl), result, error, progress, failures=int(failed_attempt)
                )
            )

        return self._told(await self._commits.run(unit))

    async def retry(
        self, job_id: str, token: str, now: str, run_at: str, error: str, ttl: float, *, progress: str | None = None
    ) -> JobRecord | None:
        """The attempt failed, and there will be another from `run_at` on, unless somebody has asked for cancellation.

        None where the run is no longer the token's.
        """

        def unit() -> Unit[JobRecord | None]:
            requeued = yield (
                "UPDATE jobs SET status = 'queued', stage = 'delayed', turn = NULL, failures = failures + 1, run_token = NULL, "
                "worker = NULL, run_at = ?, progress = COALESCE(?, progress), last_event = last_event + 1 "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {sql.ALL}",
                (run_at, progress, job_id, token),
            )
            if not requeued.rows:
                return (
                    yield from self._end(
                        job_id, token, Status.CANCELLED, now, later(now, ttl), None, None, progress, failures=1
                    )
                )
            job = sql.record(requeued.rows[0])
            yield from queue.admit(job)
            yield from self._again(job, now, "failed", error, run_at)
            return job

        return self._told(await self._commits.run(unit))

    async def hasten(self, job_id: str, run_at: str, now: str) -> None:
        """The wait until `run_at` is over, whatever the clock says."""

        def unit() -> Unit[None]:
            yield (
                "UPDATE jobs SET run_at = ? WHERE id = ? AND status = 'queued' AND run_at = ? AND run_at > ?",
                (now, job_id, run_at, now),
            )

        await self._commits.run(unit)

    async def give_back(self, job_id: str, token: str, now: str, ttl: float, *, progress: str | None = None) -> bool:
        """End a run that a shutdown stopped, or that nobody runs, as if its attempt had never been.

        Where somebody asked for its cancellation, the job is cancelled. False where the run is no longer the token's.
        """

        def unit() -> Unit[JobRecord | bool | None]:
            given = yield (
                # Ready at once: it was due when it was claimed, even if the clock was set back since.
                "UPDATE jobs SET status = 'queued', stage = 'ready', attempt = attempt - 1, started_at = NULL, "
                "run_token = NULL, worker = NULL "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL RETURNING slot, owner",
                (job_id, token),
            )
            if given.count:
                for row in given.rows:
                    yield from queue.admit(row)
                return True
            return (yield from self._end(job_id, token, Status.CANCELLED, now, later(now, ttl), None, None, progress))

        given = await self._commits.run(unit)
        if isinstance(given, JobRecord):
            self._told(given)
        return bool(given)

    async def cancel(self, job_id: str, now: str, ttl: float) -> tuple[CancelAnswer, JobRecord]:
        """Cancel what is queued, ask what runs to stop. Raises JobNotFound, JobExpired."""

        def unit() -> Unit[tuple[CancelAnswer, JobRecord] | None]:
            gone = yield (
                "UPDATE jobs SET status = 'cancelled', stage = NULL, finished_at = ?, expires_at = ?, cancel_requested_at = ?, "
                f"last_event = last_event + 1 WHERE id = ? AND status = 'queued' RETURNING {sql.ALL}",
                (now, later(now, ttl), now, job_id),
            )
            if gone.rows:
                job = sql.record(gone.rows[0])
                yield from queue.admit(job)
                yield from self._happened(job, "cancelled", now)
                return CancelAnswer.CANCELLED, job
            asked = yield (
                "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) "
                f"WHERE id = ? AND status = 'running' RETURNING {sql.ALL}",
                (now, job_id),
            )
            if asked.rows:
                return CancelAnswer.REQUESTED, sql.record(asked.rows[0])
            ended = yield (f"SELECT {sql.ALL} FROM jobs WHERE id = ?", (job_id,))
            return (CancelAnswer.ENDED, sql.record(ended.rows[0])) if ended.rows else None

        answer = await self._commits.run(unit)
        if answer is None:
            return CancelAnswer.ENDED, await self.get(job_id, None)
        self._told(answer[1])
        return answer

    async def runs(self, worker: str) -> list[Run]:
        """What a worker runs."""
        rows = await self._database.read(
            "SELECT id, run_token, cancel_requested_at FROM jobs WHERE status = 'running' AND worker = ?", worker
        )
        return [Run(row["id"], row["run_token"], row["cancel_requested_at"] is not None) for row in rows]

    async def is_due(self, tasks: Sequence[str], now: str) -> bool:
        """Whether a claim might find a job of `tasks`."""
        for statement, values in queue.is_due(tasks, now):
            if await self._database.read(statement, *values):
                return True
        return False

    async def bury(self, worker: str, now: str, ttl: float, crash_limit: int, crashed: str) -> int:
        """Declare a worker dead: its runs end here, and their jobs run again, but for those that have crashed too often.

        `crashed` is the problem, as JSON, of a job that has. Returns how many jobs it left.
        """

        def unit() -> Unit[int]:
            removed = yield ("DELETE FROM workers WHERE id = ?", (worker,))
            if not removed.count:
                return 0
            left = yield (f"SELECT {sql.ALL} FROM jobs WHERE status = 'running' AND worker = ?", (worker,))
            for row in left.rows:
                yield from self._crashed(sql.record(row), now, later(now, ttl), crash_limit, crashed)
            return len(left.rows)

        try:
            left = await self._commits.run(unit)
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            # One of the runs cannot be written: each by itself, so that it holds up no other.
            runs = await self.runs(worker)
            for run in runs:
                await self.crash(run.job_id, run.token, now, ttl, crash_limit, crashed)
            left = len(runs) + await self._commits.run(unit)
        self._outbox.committed()
        return left

    async def crash(self, job_id: str, token: str, now: str, ttl: float, crash_limit: int, crashed: str) -> None:
        """End a run as if its process had died: where its outcome cannot be written, or nobody is left to write it.

        Where its history cannot be written either, the job's row alone is.
        """

        def unit(*, plain: bool) -> Unit[None]:
            run = yield (
                f"SELECT {sql.ALL} FROM jobs WHERE id = ? AND run_token = ? AND status = 'running'",
                (job_id, token),
            )
            for row in run.rows:
                yield from self._crashed(sql.record(row), now, later(now, ttl), crash_limit, crashed, plain=plain)

        try:
            await self._commits.run(lambda: unit(plain=False))
        except Exception as error:
            if as_unavailable(error) is not None:
                raise
            log.exception("what happened to job %s cannot be written: its history lacks it", job_id)
            await self._commits.run(lambda: unit(plain=True))
        self._outbox.committed()

    def _crashed(
        self, job: JobRecord, now: str, expires_at: str, crash_limit: int, crashed: str, *, plain: bool = False
    ) -> Unit[None]:
        """Count the crash; then the job runs again, unless it has crashed too often. `plain`: without its history."""
        is_over = job.crashes + 1 >= crash_limit
        if job.cancel_requested_at or is_over:
            status, error = (Status.CANCELLED, None) if job.cancel_requested_at else (Status.FAILED, crashed)
            yield from self._end(
                job.id, job.run_token or "", status, now, expires_at, None, error, crashes=1, plain=plain
            )
            return
        requeued = yield (
            "UPDATE jobs SET status = 'queued', stage = 'ready', crashes = crashes + 1, run_token = NULL, worker = NULL, "
            f"last_event = last_event + 1 WHERE id = ? RETURNING {sql.ALL}",
            (job.id,),
        )
        if not plain:
            yield from self._again(sql.record(requeued.rows[0]), now, "crashed", None, now)

    async def tick(self, task: str, tick: str, job: JobRecord) -> bool:
        """Insert the job of a schedule's tick; False where some process has done it already."""

        def unit() -> Unit[bool]:
            first = yield (
                "INSERT INTO schedule_ticks (task, tick) VALUES (?, ?) ON CONFLICT (task, tick) DO NOTHING",
                (task, tick),
            )
            if first.count < 1:
                return False
            yield from self._add(job)
            return True

        return await self._commits.run(unit)

    def _add(self, job: JobRecord, beside: int = 0) -> Unit[None]:
        """Insert a job, which takes `beside` bytes besides its row."""
        statement = sql.insert(job)
        size = usage.size_of((statement,)) + beside
        yield sql.insert(replace((yield from queue.line_up(job)), bytes=size))
        yield usage.added(job.owner, size)

    async def forget_ticks(self, tasks: Sequence[str], after: str) -> None:
        """Forget the ticks of schedules after that moment: a clock that was ahead fired them, and they are still to come."""
        marks = ", ".join("?" for _ in tasks)

        def unit() -> Unit[None]:
            yield (f"DELETE FROM schedule_ticks WHERE task IN ({marks}) AND tick > ?", (*tasks, after))

        await self._commits.run(unit)

    def _end(
        self,
        job_id: str,
        token: str,
        status: Status,
        now: str,
        expires_at: str,
        result: str | None,
        error: str | None,
        progress: str | None = None,
        *,
        failures: int = 0,
        crashes: int = 0,
        plain: bool = False,
    ) -> Unit[JobRecord | None]:
        ended = yield (
            "UPDATE jobs SET status = ?, stage = NULL, finished_at = ?, expires_at = ?, result = ?, error = ?, "
            "progress = COALESCE(?, progress), failures = failures + ?, crashes = crashes + ?, run_token = NULL, "
            "worker = NULL, last_event = last_event + 1 "
            f"WHERE id = ? AND run_token = ? AND status = 'running' RETURNING {sql.ALL}",
            (status.value, now, expires_at, result, error, progress, failures, crashes, job_id, token),
        )
        if not ended.rows:
            return None
        job = sql.record(ended.rows[0])
        yield from queue.admit(job)
        if plain:
            yield from usage.grown(job.id, job.owner, 0, ended=True)
            return job
        attempt = sql.attempt(job, now, "crashed" if crashes else status.value, error)
        yield attempt
        outcome = len((result or "").encode()) + len((error or "").encode())
        yield from self._happened(job, status.value, now, outcome + usage.size_of((attempt,)))
        return job

    def _happened(self, job: JobRecord, event: str, now: str, size: int = 0) -> Unit[None]:
        """The end of a job: an event that shows it as it is now, and what that sends to whom it calls back.

        `size` is what else its end has stored.
        """
        statement = sql.event(job.id, job.last_event, event, job.document(whole=False), now)
        yield statement
        called = yield from usage.weighed(self._outbox.tell(job, event, now))
        yield from usage.grown(job.id, job.owner, size + usage.size_of((statement,)) + called, ended=True)

    def _again(self, job: JobRecord, now: str, outcome: str, error: str | None, run_at: str) -> Unit[None]:
        """The end of an attempt that another follows."""
        data = {"attempt": job.attempt, "run_at": run_at, "error": error and json.loads(error)}
        attempt, event = sql.attempt(job, now, outcome, error), sql.event(job.id, job.last_event, "retry", data, now)
        yield attempt
        yield event
        yield from usage.grown(job.id, job.owner, usage.size_of((attempt, event)))

    def _told(self, job: JobRecord | None) -> JobRecord | None:
        if job is not None and job.callback_url is not None:
            self._outbox.committed()
        return job
