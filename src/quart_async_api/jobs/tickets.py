"""Tickets: rows in the table of procrastinate, one for each queued job, written and removed in the job's own transactions.

A ticket holds the id of its job alone. It may be outdated: the jobs table is the truth, and each claim asks it.
"""

from collections.abc import Sequence

from ..db.group_commit import Statement, Unit, Unprepared
from ..moments import Clock, moment, utc_now
from .dispatch import LocalDispatch
from .states import JobRecord, Status

TASK = "run_job"
PUT_BACK_SECONDS = 0.05
_QUEUE_LENGTH = 128  # of procrastinate's column

_INSERT = "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args, scheduled_at)"
# A ticket that is there already is changed and not left: that locks it, so that no worker takes it before this transaction
# is committed and its job can be claimed.
_WRITE = (
    f"{_INSERT} VALUES (?, '{TASK}', ?, ?, jsonb_build_object('job_id', ?::text), %s) "
    "ON CONFLICT (queueing_lock) WHERE status = 'todo' "
    "DO UPDATE SET priority = excluded.priority, scheduled_at = excluded.scheduled_at"
)
_NOW, _AT, _AFTER = (
    _WRITE.replace("%s", due) for due in ("NULL", "?::timestamptz", "clock_timestamp() + make_interval(secs => ?)")
)
_PUT_BACK = (
    f"{_INSERT} SELECT left(task, {_QUEUE_LENGTH}), '{TASK}', -urgency, id, jsonb_build_object('job_id', id), "
    "clock_timestamp() + make_interval(secs => ?) "
    "FROM jobs WHERE id = ANY (?::text[]) AND status = 'queued' AND stage IN ('ready', 'delayed') ON CONFLICT DO NOTHING"
)
# In the order of an index. Locked first, in a step of its own: the plan of a DELETE may repeat a part with a LIMIT.
_TAKE = (
    "WITH due AS MATERIALIZED (SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = ANY (?::text[]) "
    "AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp()) ORDER BY priority DESC, id LIMIT ? "
    "FOR UPDATE SKIP LOCKED) "
    "DELETE FROM procrastinate_jobs AS t USING due WHERE t.id = due.id RETURNING t.args ->> 'job_id' AS job_id"
)
# One that is locked is being taken, or belongs to a job that is queued anew: waiting for it could cross with its owner's wait.
_REMOVE = (
    "WITH free AS MATERIALIZED (SELECT id FROM procrastinate_jobs "
    "WHERE queueing_lock = ANY (?::text[]) AND status = 'todo' FOR UPDATE SKIP LOCKED) "
    "DELETE FROM procrastinate_jobs AS t USING free WHERE t.id = free.id"
)

# For jobs/reconciler.py, and the same with counts for `doctor`.
LEFT_SECONDS = 600  # without a heartbeat of the worker that has fetched it, after which a ticket is left behind
_IS_OUT = (
    "stage IN ('ready', 'delayed') AND NOT EXISTS "
    "(SELECT 1 FROM procrastinate_jobs AS t WHERE t.queueing_lock = jobs.id AND t.status = 'todo')"
)
_IS_FETCHED = (
    "EXISTS (SELECT 1 FROM procrastinate_jobs AS t "
    "WHERE t.queueing_lock = jobs.id AND t.status = 'doing' AND t.worker_id IS NOT NULL)"
)
_IS_ORPHAN = "NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = queueing_lock AND jobs.status = 'queued')"
JOBS = f"SELECT id, {_IS_OUT}, {_IS_FETCHED} FROM jobs WHERE status = 'queued' AND id > %s ORDER BY id LIMIT %s"
TICKETS = f"SELECT id, {_IS_ORPHAN} FROM procrastinate_jobs WHERE status = 'todo' AND id > %s ORDER BY id LIMIT %s"
LEFT = (
    "SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND (worker_id IS NULL OR worker_id IN (SELECT id FROM "
    f"procrastinate_workers WHERE last_heartbeat < now() - interval '{LEFT_SECONDS} seconds'))"
)
WRITE_ALL = (
    f"{_INSERT} SELECT left(task, {_QUEUE_LENGTH}), '{TASK}', -urgency, id, jsonb_build_object('job_id', id), "
    "CASE stage WHEN 'delayed' THEN run_at::timestamptz END "
    "FROM jobs WHERE id = ANY (%s) AND status = 'queued' AND stage IN ('ready', 'delayed') ON CONFLICT DO NOTHING"
)
# A process that queues a job takes over its ticket. Such a ticket stays, also while it is being taken over.
LOCK = "SELECT id FROM procrastinate_jobs WHERE id = ANY (%s) FOR UPDATE SKIP LOCKED"
REMOVE_ALL = f"DELETE FROM procrastinate_jobs WHERE id = ANY (%s) AND (status = 'doing' OR {_IS_ORPHAN})"
MISSING = f"SELECT COUNT(*) FROM jobs WHERE status = 'queued' AND {_IS_OUT} AND NOT {_IS_FETCHED}"
ORPHANS = f"SELECT COUNT(*) FROM procrastinate_jobs WHERE status = 'todo' AND {_IS_ORPHAN}"


def queue_of(task: str) -> str:
    """Return procrastinate's queue for the tickets of a task: so a worker fetches those of its own tasks alone."""
    return task[:_QUEUE_LENGTH]


def take(tasks: Sequence[str], limit: int) -> Unit[list[str]]:
    """Remove at most `limit` due tickets of `tasks` that no other process has locked. Return the ids of their jobs."""
    taken = yield Unprepared(_TAKE, ([queue_of(task) for task in tasks], limit))
    return [row["job_id"] for row in taken.rows]


def exchange(claimed: Sequence[str], left: Sequence[str]) -> Unit[None]:
    """Remove the tickets of jobs that were claimed by tickets of others. Write new ones for those of `left` that still wait.

    A process that could not claim all that it has tickets for leaves the rest to others for a moment.
    """
    if claimed:
        yield _REMOVE, (list(claimed),)
    if left:
        yield _PUT_BACK, (0.0 if len(claimed) == len(left) else PUT_BACK_SECONDS, list(left))


class DistributedDispatch(LocalDispatch):
    """Writes and removes tickets. Signals the engine of this process, if there is one."""

    def __init__(self, *, clock: Clock = utc_now) -> None:
        super().__init__()
        self._clock = clock

    def queued(self, job: JobRecord) -> Unit[None]:
        if job.stage != "held":  # it gets one when its slot is free
            yield self._ticket(job)

    def cancelled(self, job: JobRecord) -> Unit[None]:
        if job.status is not Status.RUNNING:
            yield _REMOVE, ([job.id],)

    def paused(self, job_ids: Sequence[str]) -> Unit[None]:
        yield _REMOVE, (list(job_ids),)

    def _ticket(self, job: JobRecord) -> Statement:
        ticket = (queue_of(job.task), -job.urgency, job.id, job.id)
        if job.stage == "ready":
            return _NOW, ticket
        if not job.attempt:
            return _AT, (*ticket, job.run_at)
        # The delay of a retry does not depend on the clocks of this host and of the database.
        return _AFTER, (*ticket, (moment(job.run_at) - self._clock()).total_seconds())
