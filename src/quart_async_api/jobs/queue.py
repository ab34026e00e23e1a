"""The order of queued jobs. Parts of units: they run in the transaction that changes a job.

Within a priority, owners take turns (start-time fair queueing): a job that becomes ready gets the turn after its owner's last
ready job, but no turn before the last claimed one. Claims go by priority, turn, id. Jobs without an owner count as one owner's.

Jobs of a task with a concurrency limit belong to a slot. Up to the limit, they are ready or running; the others are held. Each
end of a run admits the next: the most urgent first, of the owner after the one whose run has ended.

On PostgreSQL, several processes do this at once. A job that another one claims, promotes or cancels is skipped. Who changes how
many jobs of a slot are ready or running holds the slot (Hold), after the rows of its own jobs. Two processes that make jobs of
one owner ready at once may give them the same turn.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..db.group_commit import Hold, Rows, Statement, Unit, in_step
from ..moments import later
from . import sql
from .states import JobRecord, Stage
from .units import Changes

SKEW_SECONDS = 60.0  # more than the expected difference between two machines' clocks
PROMOTED = 100  # jobs in one unit, to keep its transaction short
PROMOTING_UNITS = 5  # of one claim, so that it does not wait for very many jobs
_TURN = sql.COLUMNS.index("turn")
_ARMS = 400  # of one compound SELECT; SQLite takes 500


def line_up(job: JobRecord) -> Unit[JobRecord]:
    """Return a new job with its place in the queue."""
    if job.run_at > job.created_at:
        return job._replace(stage="delayed")
    return job._replace(stage=(yield from _stage(job.urgency, job.slot, job.slot_limit)))


def insert(job: JobRecord) -> Statement:
    """Insert a new job. One that lines up as ready gets its turn."""
    if job.stage != "ready" or job.turn is not None:
        return sql.insert(job)
    turn, whose = _next_turn(job.owner, job.urgency)
    return _insert(turn), (*job[:_TURN], *whose, *job[_TURN + 1 :])


@cache
def _insert(turn: str) -> str:
    marks = ["?" for _ in sql.COLUMNS]
    marks[_TURN] = turn
    return f"INSERT INTO jobs ({sql.ALL}) VALUES ({', '.join(marks)})"


def is_empty(now: str) -> Unit[bool]:
    """Return whether no job is ready, or delayed and due: then a new job that begins at once overtakes none."""
    waiting = yield (
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM jobs WHERE stage = 'ready') "
        "OR EXISTS (SELECT 1 FROM jobs WHERE stage = 'delayed' AND run_at <= ?)",
        (now,),
    )
    return not waiting.rows


def promote(now: str) -> Unit[bool]:
    """Make at most PROMOTED due delayed jobs ready or held. Return whether there may be more.

    A clock that is set back must not delay retries: if the last attempt started in the future, the next one is due now.
    """
    delayed = "SELECT id, owner, urgency, slot, slot_limit, turn FROM jobs WHERE stage = 'delayed' AND"
    due = yield (
        f"SELECT * FROM ({delayed} run_at <= ? ORDER BY run_at, id LIMIT ? /*FOR UPDATE SKIP LOCKED*/) AS due UNION ALL "
        f"SELECT * FROM ({delayed} started_at > ? ORDER BY started_at, id LIMIT ? /*FOR UPDATE SKIP LOCKED*/) "
        "AS began_in_the_future",
        (now, PROMOTED, later(now, SKEW_SECONDS), PROMOTED),
    )
    yield from _promote_all(due.rows)
    return len(due.rows) >= PROMOTED


def promote_these(job_ids: Sequence[str]) -> Unit[bool]:
    """Make those of these jobs that are delayed ready or held, even before their `run_at`. Return whether there are any.

    Leaves those that others have locked.
    """
    found = yield (
        f"SELECT id, owner, urgency, slot, slot_limit, turn FROM jobs WHERE id IN ({', '.join('?' for _ in job_ids)}) "
        f"AND stage = 'delayed' ORDER BY id /*FOR UPDATE SKIP LOCKED*/",
        job_ids,
    )
    yield from _promote_all(found.rows)
    return bool(found.rows)


def _promote_all(rows: Rows) -> Unit[None]:
    jobs = {row["id"]: row for row in rows}.values()
    yield from in_step(map(_promote, jobs))


def first(tasks: Sequence[str], limit: int) -> Unit[list[str]]:
    """Return the ids of the next `limit` ready jobs of `tasks`. Does not read jobs of other tasks."""
    heads: Rows = []
    for start in range(0, len(tasks), _ARMS):
        arms = tasks[start : start + _ARMS]
        found = yield _ready("id, urgency, turn", arms, limit)
        heads += found.rows
    heads.sort(key=lambda row: (row["urgency"], row["turn"], row["id"]))
    return [row["id"] for row in heads[:limit]]


def is_due(tasks: Sequence[str], now: str) -> list[Statement]:
    """Return queries. At least one finds a row if `promote` or `first` would find a job."""
    delayed = "SELECT 1 FROM jobs WHERE stage = 'delayed' AND"
    return [
        (f"{delayed} run_at <= ? ORDER BY run_at LIMIT 1", (now,)),
        (f"{delayed} started_at > ? ORDER BY started_at LIMIT 1", (later(now, SKEW_SECONDS),)),
        *(_ready("id", tasks[start : start + _ARMS], 1) for start in range(0, len(tasks), _ARMS)),
    ]


def claimed(jobs: Sequence[JobRecord]) -> Unit[None]:
    """Store the last claimed turn of each priority."""
    reached: dict[int, int] = {}
    for job in jobs:
        reached[job.urgency] = max(reached.get(job.urgency, 0), job.turn or 0)
    for urgency, turn in sorted(reached.items()):
        # Not if another process does it now: all claims would wait for each other, for a value that is as good.
        written = yield (
            "UPDATE job_turns SET turn = ? WHERE urgency IN "
            "(SELECT urgency FROM job_turns WHERE urgency = ? AND turn < ? /*FOR UPDATE SKIP LOCKED*/)",
            (turn, urgency, turn),
        )
        if written.count < 1:
            yield (
                "INSERT INTO job_turns (urgency, turn) SELECT ?, ? "
                "WHERE NOT EXISTS (SELECT 1 FROM job_turns WHERE urgency = ?) "
                "/*AND pg_try_advisory_xact_lock(hashtext('job_turns'), 0)*/ ON CONFLICT (urgency) DO NOTHING",
                (urgency, turn, urgency),
            )


def admit(job: JobRecord, changes: Changes) -> Unit[None]:
    """Make held jobs of a slot ready, up to its limit, after `job` has left it.

    It comes last in a unit: it holds the slot.
    """
    slot, owner = job.slot, job.owner
    if slot is not None:
        yield _hold(slot)
    while slot is not None:
        following = yield from _held(slot, owner)
        if following is None or not (yield from _has_room(slot, following["slot_limit"])):
            return
        turn, values = _next_turn(following["owner"], following["urgency"])
        admitted = yield (
            f"UPDATE jobs SET stage = 'ready', turn = {turn} WHERE id = ? AND stage = 'held' RETURNING {sql.ALL}",
            (*values, following["id"]),
        )
        for admitted_job in sql.records(admitted.rows):  # without unreadable ones
            yield from changes.queued(admitted_job)
        owner = following["owner"]


def _promote(job: Mapping[str, Any]) -> Unit[None]:
    stage = yield from _stage(job["urgency"], job["slot"], job["slot_limit"])
    if stage == "held":
        yield ("UPDATE jobs SET stage = 'held', turn = NULL WHERE id = ? AND stage = 'delayed'", (job["id"],))
        return
    turn, values = _next_turn(job["owner"], job["urgency"])
    yield (
        f"UPDATE jobs SET stage = 'ready', turn = COALESCE(turn, {turn}) WHERE id = ? AND stage = 'delayed'",
        (*values, job["id"]),
    )


def _stage(urgency: int, slot: str | None, slot_limit: int | None) -> Unit[Stage]:
    """Return the stage of a due job."""
    if slot is None:
        return "ready"
    yield _hold(slot)
    if not (yield from _has_room(slot, slot_limit)):
        # A more urgent job takes the place of a less urgent ready one.
        displaced = yield (
            "UPDATE jobs SET stage = 'held', turn = NULL WHERE id = (SELECT id FROM jobs WHERE slot = ? AND stage = 'ready' "
            "AND urgency > ? ORDER BY urgency DESC, owner DESC, id DESC LIMIT 1 /*FOR UPDATE SKIP LOCKED*/)",
            (slot, urgency),
        )
        if displaced.count < 1:
            return "held"
    return "ready"


def _hold(slot: str) -> Hold:
    return Hold(f"slot {slot}")


def _next_turn(owner: str | None, urgency: int) -> tuple[str, tuple[str | int, ...]]:
    """Return the SQL of the next turn of an owner, with its values.

    A part of the statement that writes it: of statements that run in step, each sees the turns before.
    """
    theirs, whose = ("owner IS NULL", ()) if owner is None else ("owner = ?", (owner,))
    return (
        "(SELECT COALESCE(MAX(turn), 0) + 1 FROM (SELECT turn FROM job_turns WHERE urgency = ? UNION ALL "
        f"SELECT MAX(turn) AS turn FROM jobs WHERE {theirs} AND stage = 'ready' AND urgency = ?) AS turns)"
    ), (urgency, *whose, urgency)


def _has_room(slot: str, limit: int | None) -> Unit[bool]:
    if limit is None:
        return True
    admitted = yield (
        "SELECT COUNT(*) AS n FROM (SELECT 1 FROM jobs WHERE slot = ? AND stage IN ('ready', 'running') LIMIT ?) AS admitted",
        (slot, limit),
    )
    return bool(admitted.rows[0]["n"] < limit)


def _held(slot: str, owner: str | None) -> Unit[dict[str, Any] | None]:
    """Return the next held job of a slot, after one of `owner`."""
    urgency = yield ("SELECT MIN(urgency) AS least FROM jobs WHERE slot = ? AND stage = 'held'", (slot,))
    if urgency.rows[0]["least"] is None:
        return None
    held = "SELECT id, owner, urgency, slot_limit FROM jobs WHERE slot = ? AND stage = 'held' AND urgency = ? AND"
    ring: list[tuple[str, tuple[str, ...]]] = [("owner IS NULL", ()), ("owner > ?", ("",))]
    if owner is not None:
        ring.insert(0, ("owner > ?", (owner,)))
    else:
        ring.reverse()
    # Others may have locked them all to cancel them, and fail. The end of another job of the slot then admits one; if there is
    # none, this waits.
    for lock in ("/*FOR UPDATE SKIP LOCKED*/", "/*FOR UPDATE*/"):
        for whose, values in ring:
            found = yield (
                f"{held} {whose} ORDER BY owner, id LIMIT 1 {lock}",
                (slot, urgency.rows[0]["least"], *values),
            )
            if found.rows:
                return found.rows[0]
        if not (yield from _has_room(slot, 1)):
            return None
    return None


def _ready(columns: str, tasks: Sequence[str], limit: int) -> Statement:
    arm = (
        f"SELECT * FROM (SELECT {columns} FROM jobs WHERE stage = 'ready' AND task = ? "
        "ORDER BY urgency, turn, id LIMIT ? /*FOR UPDATE SKIP LOCKED*/) AS head"
    )
    return " UNION ALL ".join(arm for _ in tasks), [value for task in tasks for value in (task, limit)]
