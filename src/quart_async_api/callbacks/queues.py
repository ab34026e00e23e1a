"""The queues of callbacks: one for each key and origin. While a worker holds a queue, no other worker calls the origin.

A worker's updates of a queue have no effect after another worker has taken it.

Many transactions change the same queues. So that none waits for another one that waits for it, each locks them last, in one
order (Late, Last), or leaves those that are locked (LAST_OF_ALL).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..db.connection import Database
from ..db.group_commit import LAST_OF_ALL, GroupCommit, Last, Late, Statement, Try, Unit
from ..jobs.queue import SKEW_SECONDS
from ..jobs.workers import is_listed
from ..moments import later
from .shares import Shares

SOME = 500  # queues in one transaction
AT_ONCE = ""  # sorts before every timestamp: due even if the clock is set back

# The keys that have a queue, with one index seek for each.
_OWNERS = (
    "WITH RECURSIVE owners (owner) AS (SELECT '' UNION ALL SELECT "
    "(SELECT MIN(q.owner) FROM callback_queues q WHERE q.owner > owners.owner) FROM owners WHERE owners.owner IS NOT NULL) "
    "SELECT owner FROM owners WHERE owner IS NOT NULL"
)
# The due queue of a key that has waited longest, of those whose origin no worker holds.
_LONGEST_DUE = (
    "SELECT origin FROM callback_queues q WHERE owner = ? AND worker IS NULL AND failing = ? AND next_at <= ? AND NOT EXISTS "
    "(SELECT 1 FROM callback_queues h WHERE h.origin = q.origin AND h.worker IS NOT NULL) ORDER BY next_at LIMIT 1"
)


_TAKE = (
    "UPDATE callback_queues SET worker = ? WHERE id = (SELECT q.id FROM callback_queues q WHERE q.owner = ? AND q.origin = ? "
    "AND q.worker IS NULL AND NOT EXISTS (SELECT 1 FROM callback_queues h WHERE h.origin = q.origin AND h.worker IS NOT NULL) "
    "/*FOR UPDATE OF q SKIP LOCKED*/)"
)


@dataclass(frozen=True, slots=True)
class Queue:
    """The callbacks of one key to one origin. `owner` is the key's id, "" for jobs without one."""

    owner: str
    origin: str

    @property
    def turn(self) -> Last:
        """Wait for the turn of this queue among all that a batch changes."""
        return Last(f"{self.owner} {self.origin}")


class CallbackQueues:
    """Divides the queues among the processes of one database. Times are arguments (timestamps): no method reads the clock."""

    def __init__(self, database: Database, commits: GroupCommit) -> None:
        self._database = database
        self._commits = commits

    async def claim(self, worker: str, now: str, shares: Shares) -> dict[Queue, int]:
        """Claim due queues, round robin over keys, within their `shares`; at most one queue for each origin.

        The next key picks its longest due queue. If several keys wait for that origin, the key that has waited longest gets
        it. Returns the number of consecutive failed attempts for each queue.
        """

        shares = shares.copy()  # units run in a thread, and may run again

        def unit() -> Unit[dict[Queue, int]]:
            claimed: dict[Queue, int] = {}
            if not (yield from is_listed(worker)):
                return claimed  # declared dead: nothing would release its new claims
            yield LAST_OF_ALL
            left = shares.copy()
            waiting = [row["owner"] for row in (yield (_OWNERS, ())).rows]
            while (owner := left.next(waiting)) is not None:
                first = yield (_LONGEST_DUE, (owner, 0, now))
                if not first.rows:  # failing queues come last
                    first = yield (_LONGEST_DUE, (owner, 1, now))
                if not first.rows:
                    waiting.remove(owner)
                    continue
                origin = first.rows[0]["origin"]
                if not (yield Try(f"callbacks to {origin}")).count:
                    waiting.remove(owner)  # another process claims it right now
                    continue
                rivals = yield (
                    "SELECT owner, failures FROM callback_queues WHERE origin = ? AND worker IS NULL AND next_at <= ? "
                    "ORDER BY set_at, id",
                    (origin, now),
                )
                taker = next((row for row in rivals.rows if left.may_take(row["owner"])), None)
                if taker is None:
                    continue  # another process was quicker
                queue = Queue(taker["owner"], origin)
                taken = yield (_TAKE, (worker, queue.owner, queue.origin))
                if not taken.count:
                    waiting.remove(owner)  # locked: look again soon
                    continue
                left.take(queue.owner)
                claimed[queue] = taker["failures"]
            return claimed

        return await self._commits.run(unit)

    async def is_due(self, now: str) -> bool:
        """Return whether a queue is due and not held."""
        return bool(
            await self._database.read(
                "SELECT 1 FROM callback_queues WHERE worker IS NULL AND next_at <= ? LIMIT 1", now
            )
        )

    async def free_orphans(self) -> bool:
        """Release the queues of dead workers. Return whether there were any."""
        orphaned = "worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = callback_queues.worker)"
        if not await self._database.read(f"SELECT 1 FROM callback_queues WHERE {orphaned} LIMIT 1"):
            return False

        def unit() -> Unit[bool]:
            return (yield from _change("UPDATE callback_queues SET worker = NULL", (), orphaned, ()))

        return await self._commits.run(unit)

    async def free_from_the_future(self, now: str) -> bool:
        """Make queues due whose times a clock that was ahead has written. Return whether there were any.

        Closes their breakers. `due` then decides which deliveries to send.
        """
        ahead = later(now, SKEW_SECONDS)
        if not await self._database.read("SELECT 1 FROM callback_queues WHERE set_at > ? LIMIT 1", ahead):
            return False

        def unit() -> Unit[bool]:
            return (
                yield from _change(
                    "UPDATE callback_queues SET open_until = NULL, set_at = ?, "
                    "next_at = CASE WHEN next_at IS NULL THEN NULL ELSE '' END",
                    (now,),
                    "set_at > ?",
                    (ahead,),
                )
            )

        return await self._commits.run(unit)

    async def release(self, queue: Queue, worker: str, now: str, behind: str = AT_ONCE) -> None:
        """Release a queue until its next delivery is due, `behind` the queues that were due by then."""

        def unit() -> Unit[None]:
            yield queue.turn
            # A delivery that another process inserts meanwhile makes the queue due after this unit.
            yield (
                "SELECT 1 FROM callback_queues WHERE owner = ? AND origin = ? /*FOR UPDATE*/",
                (queue.owner, queue.origin),
            )
            first = yield (
                "SELECT MIN(CASE WHEN set_at > ? THEN '' ELSE next_attempt_at END) AS due FROM callback_deliveries "
                "WHERE origin = ? AND owner = ? AND status = 'pending'",
                (later(now, SKEW_SECONDS), queue.origin, queue.owner),
            )
            due = first.rows[0]["due"]
            next_at = due if due is None else max(due, behind)
            yield (
                "UPDATE callback_queues SET worker = NULL, set_at = ?, "
                "next_at = CASE WHEN open_until > ? THEN open_until ELSE ? END "
                "WHERE owner = ? AND origin = ? AND worker = ?",
                (now, next_at, next_at, queue.owner, queue.origin, worker),
            )

        await self._commits.run(unit)

    async def held(self, worker: str) -> set[Queue]:
        """Return the queues that a worker holds."""
        rows = await self._database.read("SELECT owner, origin FROM callback_queues WHERE worker = ?", worker)
        return {Queue(**row) for row in rows}


def due_at(owner: str, origin: str, due: str, now: str) -> Late:
    """Make the queue of `owner` and `origin` due at `due`: AT_ONCE, or a time after `now`.

    A queue that is already due keeps its place. If its breaker is open, it waits until the breaker closes.
    """
    return Late(
        "INSERT INTO callback_queues AS q (owner, origin, next_at, set_at, failures, failing) VALUES (?, ?, ?, ?, 0, 0) "
        "ON CONFLICT (owner, origin) DO UPDATE SET "
        "next_at = CASE WHEN q.next_at <= excluded.set_at OR q.next_at <= excluded.next_at OR q.next_at <= q.open_until "
        "THEN q.next_at WHEN q.open_until > excluded.next_at THEN q.open_until ELSE excluded.next_at END, "
        "set_at = CASE WHEN excluded.next_at = '' OR q.set_at > excluded.set_at THEN q.set_at ELSE excluded.set_at END",
        (owner, origin, due, now),
    )


def look_again(owner: str) -> Late:
    """Make the waiting queues of `owner` due now, because this key has changed."""
    return Late(
        "UPDATE callback_queues SET next_at = '' WHERE id IN (SELECT id FROM callback_queues "
        "WHERE owner = ? AND next_at > '' ORDER BY origin /*COLLATE \"C\" FOR UPDATE*/)",
        (owner,),
    )


def heard(queue: Queue, worker: str, closed_until: str | None, *, alive: bool) -> Statement:
    """Record whether the origin is `alive`, and close the queue until `closed_until`. No effect if the worker has lost it.

    Comes after `queue.turn`.
    """
    return (
        "UPDATE callback_queues SET failures = CASE WHEN ? THEN 0 ELSE failures + 1 END, failing = ?, open_until = ? "
        "WHERE owner = ? AND origin = ? AND worker = ?",
        (alive, int(not alive), closed_until, queue.owner, queue.origin, worker),
    )


def reopened(queue: Queue, now: str) -> Unit[None]:
    """Make a queue due at once, and close its breaker. Comes after `queue.turn`."""
    yield (
        "UPDATE callback_queues SET open_until = NULL, next_at = NULL WHERE owner = ? AND origin = ?",
        (queue.owner, queue.origin),
    )
    yield due_at(queue.owner, queue.origin, AT_ONCE, now)


def forget_idle(now: str) -> Unit[bool]:
    """Delete queues with nothing to send whose breaker is not open. Return whether there were any."""
    idle = "worker IS NULL AND next_at IS NULL AND (open_until IS NULL OR open_until <= ?)"
    return (yield from _change("DELETE FROM callback_queues", (), idle, (now,)))


def _change(change: str, values: Sequence[Any], which: str, of: Sequence[Any]) -> Unit[bool]:
    """Change some queues, but for those that others change right now. Return whether there were any."""
    yield LAST_OF_ALL
    found = yield (f"SELECT id FROM callback_queues WHERE {which} LIMIT {SOME} /*FOR UPDATE SKIP LOCKED*/", of)
    ids = [row["id"] for row in found.rows]
    if ids:
        yield (f"{change} WHERE id IN ({', '.join('?' for _ in ids)})", (*values, *ids))
    return bool(ids)
