"""Every query about jobs. What changes one is a unit of a group commit; what a run writes is fenced by its token."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Rows, Statement, Unit
from ..errors import JobExpired, JobNotFound, KeyTaken, QueueFull, QuotaExceeded, ServiceError
from .ids import first_id
from .states import JobRecord, Status, later, moment

COLUMNS = tuple(JobRecord.__dataclass_fields__)
_ALL = ", ".join(COLUMNS)
QUOTA_RETRY_SECONDS = 5  # after which one of a key's many jobs may well have ended
# An undelayed job is due whatever the clock says: one that jumps back must not hold it.
_DUE = "(run_at <= ? OR run_at <= created_at)"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `number` counts from 1 in each job, `position` over all of them."""

    position: int
    job_id: str
    number: int
    name: str
    data: dict[str, Any]
    owner: str | None = None  # of the job, where events of all jobs are read


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt that runs; `cancelled` where someone wants it to be."""

    job_id: str
    token: str
    cancelled: bool


class Outbox(Protocol):
    """Where the events of jobs go that somebody wants to be called back about."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """What belongs into the transaction in which `event` happens to `job`."""

    def committed(self) -> None:
        """Some of it has been committed."""


class NoOutbox:
    """For a store that is only read, or whose jobs call nobody."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        yield from ()

    def committed(self) -> None: ...


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"  # it was queued, and is no more
    REQUESTED = "requested"  # it runs, and will be told
    ENDED = "ended"  # it had ended already


class JobStore:
    """The jobs, attempts and events of one database. Times come in as timestamps; nothing here asks the clock."""

    def __init__(self, database: Database, commits: GroupCommit, outbox: Outbox | None = None) -> None:
        self._database = database
        self._commits = commits
        self._outbox = outbox or NoOutbox()
        self._locked = " FOR UPDATE SKIP LOCKED" if database.url.file is None else ""

    # Submitting, and reading

    async def insert(
        self,
        job: JobRecord,
        queue_limit: int,
        *,
        quota: int | None = None,
        first: Iterable[Statement] = (),
        also: Iterable[Statement] = (),
    ) -> None:
        """Insert the job, and do `also`, in one transaction; only if each statement of `first` changes a row.

        Raises KeyTaken where one does not, QueueFull where `queue_limit` jobs are queued already, QuotaExceeded where
        `quota` of its owner's are queued or running; nothing is written then.
        """

        def unit() -> Unit[ServiceError | None]:
            # Refusals are returned, not raised: nothing is written yet, and the rest of the batch may go on.
            queued = yield (
                "SELECT COUNT(*) AS n FROM (SELECT 1 FROM jobs WHERE status = 'queued' LIMIT ?) AS queued",
                (queue_limit,),
            )
            if queued.rows[0]["n"] >= queue_limit:
                return QueueFull(f"{queue_limit} jobs are queued already")
            if quota is not None:
                unfinished = yield (
                    "SELECT COUNT(*) AS n FROM (SELECT 1 FROM jobs WHERE owner = ? AND status IN ('queued', 'running') "
                    "LIMIT ?) AS unfinished",
                    (job.owner, quota),
                )
                if unfinished.rows[0]["n"] >= quota:
                    return QuotaExceeded("jobs", f"{quota} jobs of this key have not ended yet", QUOTA_RETRY_SECONDS)
            for statement in first:
                if (yield statement).count < 1:
                    return KeyTaken()
            yield _insert(job)
            for statement in also:
                yield statement
            return None

        if (refusal := await self._commits.run(unit)) is not None:
            raise refusal

    async def get(self, job_id: str, seen_by: str | None) -> JobRecord:
        """A job that belongs to the owner `seen_by`, or to whomever with None.

        Raises JobNotFound, of somebody else's too, or JobExpired with what is left of it.
        """
        if rows := await self._database.read(f"SELECT {_ALL} FROM jobs WHERE id = ?", job_id):
            if seen_by in (None, rows[0]["owner"]):
                return _record(rows[0])
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
        """At most `limit` jobs of the owner `seen_by`, or of all, newest first, whose ids come before `before`."""
        wanted = [
            ("owner = ?", seen_by),
            ("status = ?", status and status.value),
            ("task = ?", task),
            ("id < ?", before),
            ("created_at > ?", created_after),
            ("created_at < ?", created_before),
            # Ids begin with the moment, so that these two bound the walk, which goes by id.
            ("id >= ?", created_after and first_id(moment(created_after))),
            ("id < ?", created_before and first_id(moment(later(created_before, 0.001)))),
        ]
        given = [(condition, value) for condition, value in wanted if value is not None]
        where = " AND ".join(condition for condition, _ in given) or "1 = 1"
        return [
            _record(row)
            for row in await self._database.read(
                f"SELECT {_ALL} FROM jobs WHERE {where} ORDER BY id DESC LIMIT ?", *(value for _, value in given), limit
            )
        ]

    async def attempts(self, job_id: str) -> Rows:
        """Its attempts that have ended, first to last."""
        rows = await self._database.read(
            "SELECT number, started_at, finished_at, outcome, error FROM job_attempts WHERE job_id = ? ORDER BY number",
            job_id,
        )
        return [row | {"error": row["error"] and json.loads(row["error"])} for row in rows]

    # Running

    async def claim(
        self, tasks: Sequence[str], limit: int, worker: str, now: str, new_token: Callable[[], str]
    ) -> list[JobRecord]:
        """Take at most `limit` due jobs of `tasks` for `worker`, the most urgent and oldest first."""
        marks = ", ".join("?" for _ in tasks)

        def unit() -> Unit[list[JobRecord]]:
            alive = yield ("SELECT 1 FROM workers WHERE id = ?", (worker,))
            if not alive.rows:
                return []  # declared dead: what it claimed now, nobody would ever release
            due = yield (
                f"SELECT id FROM jobs WHERE status = 'queued' AND {_DUE} AND task IN ({marks}) "
                f"ORDER BY urgency, id LIMIT ?{self._locked}",
                (now, *tasks, limit),
            )
            claimed = []
            for row in due.rows:
                taken = yield (
                    "UPDATE jobs SET status = 'running', attempt = attempt + 1, run_token = ?, worker = ?, "
                    f"started_at = ? WHERE id = ? AND status = 'queued' RETURNING {_ALL}",
                    (new_token(), worker, now, row["id"]),
                )
                claimed += [_record(taken_row) for taken_row in taken.rows]
            return claimed

        return await self._commits.run(unit)

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
                "RETURNING last_event, callback_events",
                (progress, job_id, token, max_events),
            )
            if not number.rows:
                written = yield (
                    "UPDATE jobs SET progress = COALESCE(?, progress) "
                    "WHERE id = ? AND run_token = ? AND status = 'running'",
                    (progress, job_id, token),
                )
                return written.count > 0
            yield _event(job_id, number.rows[0]["last_event"], name, data, now)
            if f"job.{name}" in (number.rows[0]["callback_events"] or ""):
                job = yield (f"SELECT {_ALL} FROM jobs WHERE id = ?", (job_id,))
                yield from self._outbox.tell(_record(job.rows[0]), name, now)
                called_back = True
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
                "UPDATE jobs SET status = 'queued', failures = failures + 1, run_token = NULL, worker = NULL, run_at = ?, "
                "progress = COALESCE(?, progress), last_event = last_event + 1 "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL "
                f"RETURNING {_ALL}",
                (run_at, progress, job_id, token),
            )
            if not requeued.rows:
                return (
                    yield from self._end(
                        job_id, token, Status.CANCELLED, now, later(now, ttl), None, None, progress, failures=1
                    )
                )
            job = _record(requeued.rows[0])
            yield _attempt(job, now, "failed", error)
            data = {"attempt": job.attempt, "run_at": run_at, "error": json.loads(error)}
            yield _event(job_id, job.last_event, "retry", data, now)
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

    async def give_back(self, job_id: str, token: str) -> bool:
        """The run was stopped by a shutdown: as if this attempt had never been."""

        def unit() -> Unit[bool]:
            given = yield (
                "UPDATE jobs SET status = 'queued', attempt = attempt - 1, run_token = NULL, worker = NULL "
                "WHERE id = ? AND run_token = ? AND status = 'running' AND cancel_requested_at IS NULL",
                (job_id, token),
            )
            return given.count > 0

        return await self._commits.run(unit)

    async def cancel(self, job_id: str, now: str, ttl: float) -> tuple[CancelAnswer, JobRecord]:
        """Cancel what is queued, ask what runs to stop. Raises JobNotFound, JobExpired."""

        def unit() -> Unit[tuple[CancelAnswer, JobRecord] | None]:
            gone = yield (
                "UPDATE jobs SET status = 'cancelled', finished_at = ?, expires_at = ?, cancel_requested_at = ?, "
                f"last_event = last_event + 1 WHERE id = ? AND status = 'queued' RETURNING {_ALL}",
                (now, later(now, ttl), now, job_id),
            )
            if gone.rows:
                job = _record(gone.rows[0])
                yield from self._happened(job, "cancelled", now)
                return CancelAnswer.CANCELLED, job
            asked = yield (
                "UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) "
                f"WHERE id = ? AND status = 'running' RETURNING {_ALL}",
                (now, job_id),
            )
            if asked.rows:
                return CancelAnswer.REQUESTED, _record(asked.rows[0])
            ended = yield (f"SELECT {_ALL} FROM jobs WHERE id = ?", (job_id,))
            return (CancelAnswer.ENDED, _record(ended.rows[0])) if ended.rows else None

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
        """Whether any job of `tasks` could be claimed."""
        marks = ", ".join("?" for _ in tasks)
        return bool(
            await self._database.read(
                f"SELECT 1 FROM jobs WHERE status = 'queued' AND {_DUE} AND task IN ({marks}) LIMIT 1", now, *tasks
            )
        )

    # Workers: a process that runs jobs, alive as long as it beats

    async def register(self, worker: str, now: str) -> None:
        def unit() -> Unit[None]:
            yield ("INSERT INTO workers (id, beat, started_at) VALUES (?, 0, ?)", (worker, now))

        await self._commits.run(unit)

    async def beat(self, worker: str) -> bool:
        """False where it was declared dead, and its jobs given to others."""

        def unit() -> Unit[bool]:
            beaten = yield ("UPDATE workers SET beat = beat + 1 WHERE id = ?", (worker,))
            return beaten.count > 0

        return await self._commits.run(unit)

    async def workers(self) -> dict[str, int]:
        """The beat of each."""
        return {row["id"]: row["beat"] for row in await self._database.read("SELECT id, beat FROM workers")}

    async def dismiss(self, worker: str) -> None:
        """Take a worker off the list that has given back what it ran."""

        def unit() -> Unit[None]:
            yield (
                "DELETE FROM workers WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM jobs WHERE status = 'running' AND worker = ?)",
                (worker, worker),
            )

        await self._commits.run(unit)

    async def bury(self, worker: str, now: str, ttl: float, crash_limit: int, crashed: str) -> int:
        """Declare a worker dead: its runs end here, and their jobs run again, but for those that have crashed too often.

        `crashed` is the problem, as JSON, of a job that has. Returns how many jobs it left.
        """

        def unit() -> Unit[int]:
            removed = yield ("DELETE FROM workers WHERE id = ?", (worker,))
            if not removed.count:
                return 0
            left = yield (f"SELECT {_ALL} FROM jobs WHERE status = 'running' AND worker = ?", (worker,))
            for row in left.rows:
                job = _record(row)
                token = job.run_token or ""
                if job.cancel_requested_at:
                    yield from self._end(job.id, token, Status.CANCELLED, now, later(now, ttl), None, None, crashes=1)
                elif job.crashes + 1 >= crash_limit:
                    yield from self._end(job.id, token, Status.FAILED, now, later(now, ttl), None, crashed, crashes=1)
                else:
                    requeued = yield (
                        "UPDATE jobs SET status = 'queued', crashes = crashes + 1, run_token = NULL, worker = NULL, "
                        f"last_event = last_event + 1 WHERE id = ? RETURNING {_ALL}",
                        (job.id,),
                    )
                    again = _record(requeued.rows[0])
                    yield _attempt(again, now, "crashed", None)
                    data = {"attempt": again.attempt, "run_at": now, "error": None}
                    yield _event(job.id, again.last_event, "retry", data, now)
            return len(left.rows)

        left = await self._commits.run(unit)
        self._outbox.committed()
        return left

    # Events

    async def events(self, job_id: str, after: int, limit: int = 1000) -> list[Event]:
        """What happened to a job after the event numbered `after`."""
        rows = await self._database.read(
            "SELECT id, job_id, number, name, data FROM job_events WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
            job_id,
            after,
            limit,
        )
        return [_as_event(row) for row in rows]

    async def events_after(self, position: int, limit: int = 1000) -> list[Event]:
        """What happened to any job after `position`, in the order in which it was committed."""
        rows = await self._database.read(
            "SELECT e.id, e.job_id, e.number, e.name, e.data, j.owner FROM job_events e LEFT JOIN jobs j ON j.id = e.job_id "
            "WHERE e.id > ? ORDER BY e.id LIMIT ?",
            position,
            limit,
        )
        return [_as_event(row) for row in rows]

    async def position(self, job_id: str, number: int) -> int | None:
        """Where the event numbered `number` of a job is among those of all; None where it is not."""
        rows = await self._database.read("SELECT id FROM job_events WHERE job_id = ? AND number = ?", job_id, number)
        return rows[0]["id"] if rows else None

    async def last_position(self) -> int:
        rows = await self._database.read("SELECT MAX(id) AS last FROM job_events")
        return rows[0]["last"] or 0

    # Keeping house

    async def expire(self, now: str, tombstone_ttl: float, limit: int = 500) -> int:
        """Make tombstones of at most `limit` expired jobs; their number."""

        def unit() -> Unit[int]:
            old = yield ("SELECT id, task, finished_at, owner FROM jobs WHERE expires_at < ? LIMIT ?", (now, limit))
            if not old.rows:
                return 0
            ids = [row["id"] for row in old.rows]
            marks = ", ".join("?" for _ in ids)
            for row in old.rows:
                yield (
                    "INSERT INTO job_tombstones (id, task, finished_at, expires_at, owner) VALUES (?, ?, ?, ?, ?)",
                    (row["id"], row["task"], row["finished_at"], later(now, tombstone_ttl), row["owner"]),
                )
            for table, column in (("job_events", "job_id"), ("job_attempts", "job_id"), ("jobs", "id")):
                yield (f"DELETE FROM {table} WHERE {column} IN ({marks})", ids)
            return len(ids)

        return await self._commits.run(unit)

    async def forget(self, now: str) -> None:
        """Delete tombstones and idempotency keys whose time is over, and ticks of schedules long past."""

        def unit() -> Unit[None]:
            yield ("DELETE FROM job_tombstones WHERE expires_at < ?", (now,))
            yield ("DELETE FROM idempotency_keys WHERE expires_at < ?", (now,))
            yield ("DELETE FROM schedule_ticks WHERE tick < ?", (later(now, -86_400),))

        await self._commits.run(unit)

    async def tick(self, task: str, tick: str, job: JobRecord) -> bool:
        """Insert the job of a schedule's tick; False where some process has done it already."""

        def unit() -> Unit[bool]:
            first = yield (
                "INSERT INTO schedule_ticks (task, tick) VALUES (?, ?) ON CONFLICT (task, tick) DO NOTHING",
                (task, tick),
            )
            if first.count < 1:
                return False
            yield _insert(job)
            return True

        return await self._commits.run(unit)

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
    ) -> Unit[JobRecord | None]:
        ended = yield (
            "UPDATE jobs SET status = ?, finished_at = ?, expires_at = ?, result = ?, error = ?, "
            "progress = COALESCE(?, progress), failures = failures + ?, crashes = crashes + ?, run_token = NULL, "
            "worker = NULL, last_event = last_event + 1 "
            f"WHERE id = ? AND run_token = ? AND status = 'running' RETURNING {_ALL}",
            (status.value, now, expires_at, result, error, progress, failures, crashes, job_id, token),
        )
        if not ended.rows:
            return None
        job = _record(ended.rows[0])
        yield _attempt(job, now, "crashed" if crashes else status.value, error)
        yield from self._happened(job, status.value, now)
        return job

    def _happened(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """An event that shows the job as it is now, and what it sends to whom it calls back."""
        yield _event(job.id, job.last_event, event, job.document(whole=False), now)
        yield from self._outbox.tell(job, event, now)

    def _told(self, job: JobRecord | None) -> JobRecord | None:
        if job is not None and job.callback_url is not None:
            self._outbox.committed()
        return job


def _record(row: Mapping[str, Any]) -> JobRecord:
    return JobRecord(**{**row, "status": Status(row["status"])})


def _as_event(row: Mapping[str, Any]) -> Event:
    data = json.loads(row["data"])
    return Event(row["id"], row["job_id"], row["number"], row["name"], data, row.get("owner"))


def _insert(job: JobRecord) -> Statement:
    values = asdict(job)
    return f"INSERT INTO jobs ({_ALL}) VALUES ({', '.join('?' for _ in COLUMNS)})", [values[name] for name in COLUMNS]


def _event(job_id: str, number: int, name: str, data: Mapping[str, Any], now: str) -> Statement:
    return (
        "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, ?, ?, ?, ?)",
        (job_id, number, name, json.dumps(data), now),  # in ASCII: half a surrogate pair cannot be stored otherwise
    )


def _attempt(job: JobRecord, now: str, outcome: str, error: str | None) -> Statement:
    return (
        "INSERT INTO job_attempts (job_id, number, started_at, finished_at, outcome, error) VALUES (?, ?, ?, ?, ?, ?)",
        (job.id, job.attempt, job.started_at, now, outcome, error),
    )
