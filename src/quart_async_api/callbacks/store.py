"""Every query about callbacks. One worker at a time holds an origin; what it writes is refused once the origin is another's."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Rows, Unit
from ..errors import CallbackNotFound
from ..jobs.states import later
from ..settings import Settings
from .outbox import AT_ONCE, GONE, attempt, due_at, url_digest

SUPERSEDED = "not tried: something newer has happened to the job"
GAVE_UP = "not tried: the origin did not answer until the schedule was over"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback that is due. `tries` counts those since it was made, or last replayed; `next_attempt_at` is another then."""

    message_id: str
    owner: str | None
    url: str
    type: str
    body: str
    traceparent: str | None
    tries: int
    next_attempt_at: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try. `body` is the beginning of the answer; `alive`: whether the origin answered at all sensibly.

    `again_at` is when to try again; None: never. `closed_until` is when to try anything at this origin again.
    """

    at: str
    status: int | None
    error: str | None
    body: str | None
    delivered: bool = False
    gone: bool = False
    alive: bool = True
    again_at: str | None = None
    closed_until: str | None = None


class Next(Enum):
    GO_ON = auto()
    PAUSE = auto()  # the origin is to be left alone for a while
    LOST = auto()  # the origin is another worker's


class DeliveryStore:
    """The deliveries, attempts and origins of one database. Times come in as timestamps; nothing here asks the clock."""

    def __init__(self, database: Database, commits: GroupCommit, settings: Settings) -> None:
        self._database = database
        self._commits = commits
        self._ttl = settings.result_ttl
        self._disabled_ttl = settings.tombstone_ttl

    # Sending

    async def claim(self, worker: str, now: str, limit: int) -> dict[str, int]:
        """Take at most `limit` origins to which something is due, those that answered last time first.

        Each comes with how many tries in a row failed there.
        """

        def unit() -> Unit[dict[str, int]]:
            alive = yield ("SELECT 1 FROM workers WHERE id = ?", (worker,))
            if not alive.rows:
                return {}  # declared dead: what it claimed now, nobody would ever release
            due = yield (
                "SELECT origin, failures FROM callback_origins WHERE worker IS NULL AND next_at <= ? "
                "AND (open_until IS NULL OR open_until <= ?) ORDER BY failures > 0, next_at LIMIT ?",
                (now, now, limit),
            )
            for row in due.rows:
                yield ("UPDATE callback_origins SET worker = ? WHERE origin = ?", (worker, row["origin"]))
            return {row["origin"]: row["failures"] for row in due.rows}

        return await self._commits.run(unit)

    async def is_due(self, now: str) -> bool:
        """Whether an origin could be claimed."""
        return bool(
            await self._database.read(
                "SELECT 1 FROM callback_origins WHERE worker IS NULL AND next_at <= ? "
                "AND (open_until IS NULL OR open_until <= ?) LIMIT 1",
                now,
                now,
            )
        )

    async def free_orphans(self) -> bool:
        """Release the origins of workers that are no more; whether there were any."""
        orphaned = (
            "worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = callback_origins.worker)"
        )
        if not await self._database.read(f"SELECT 1 FROM callback_origins WHERE {orphaned} LIMIT 1"):
            return False

        def unit() -> Unit[bool]:
            freed = yield (f"UPDATE callback_origins SET worker = NULL WHERE {orphaned}", ())
            return freed.count > 0

        return await self._commits.run(unit)

    async def due(self, origin: str, now: str, limit: int) -> list[Delivery]:
        """What is to be sent to an origin, in the order in which it happened."""
        rows = await self._database.read(
            "SELECT message_id, owner, url, type, body, traceparent, tries, next_attempt_at FROM callback_deliveries "
            "WHERE origin = ? AND status = 'pending' AND next_attempt_at <= ? ORDER BY id LIMIT ?",
            origin,
            now,
            limit,
        )
        return [Delivery(**row) for row in rows]

    async def is_superseded(self, message_id: str) -> bool:
        """Whether something newer is to be told, or was told, about the same job; never of what somebody replays."""
        return bool(
            await self._database.read(
                "SELECT 1 FROM callback_deliveries d JOIN callback_deliveries n ON n.job_id = d.job_id AND n.id > d.id "
                "WHERE d.message_id = ? AND (d.tries > 0 OR NOT EXISTS "
                "(SELECT 1 FROM callback_attempts a WHERE a.message_id = d.message_id)) LIMIT 1",
                message_id,
            )
        )

    async def record(self, origin: str, worker: str, delivery: Delivery, outcome: Outcome, give_up_before: str) -> Next:
        """Write what became of a try, and whether to go on with this origin.

        Where the origin stays closed, what was made before `give_up_before` and never had its turn is given up.
        """

        def unit() -> Unit[Next]:
            held = yield (
                "UPDATE callback_origins SET failures = CASE WHEN ? THEN 0 ELSE failures + 1 END, open_until = ? "
                "WHERE origin = ? AND worker = ?",
                (outcome.alive, outcome.closed_until, origin, worker),
            )
            if not held.count:
                return Next.LOST
            yield attempt(delivery.message_id, outcome.at, outcome.status, outcome.error, outcome.body)
            pending = not outcome.delivered and outcome.again_at is not None
            status = "pending" if pending else "delivered" if outcome.delivered else "failed"
            expires_at = None if pending else later(outcome.at, self._ttl)
            yield (
                "UPDATE callback_deliveries SET status = ?, tries = tries + 1, next_attempt_at = ?, expires_at = ? "
                "WHERE message_id = ? AND next_attempt_at = ?",  # else it was replayed meanwhile, and is sent again
                (status, outcome.again_at, expires_at, delivery.message_id, delivery.next_attempt_at),
            )
            if outcome.gone:
                yield from self._disable(origin, delivery.url, outcome.at)
                return Next.PAUSE  # what was read of it may be of that URL
            if outcome.closed_until is None:
                return Next.GO_ON
            yield from self._fail(
                "origin = ? AND created_at < ? AND (next_attempt_at = '' OR next_attempt_at < ?)",
                (origin, give_up_before, give_up_before),
                GAVE_UP,
                outcome.at,
            )
            return Next.PAUSE

        return await self._commits.run(unit)

    async def drop(self, message_id: str, now: str) -> None:
        """End a delivery that nobody needs any longer."""
        await self._commits.run(lambda: self._fail("message_id = ?", (message_id,), SUPERSEDED, now))

    async def release(self, origin: str, worker: str, behind: str = AT_ONCE) -> None:
        """Let go of an origin, until something is due there again; `behind` those to which something was due by then."""

        def unit() -> Unit[None]:
            first = yield (
                "SELECT MIN(next_attempt_at) AS due FROM callback_deliveries WHERE origin = ? AND status = 'pending'",
                (origin,),
            )
            due = first.rows[0]["due"]
            yield (
                "UPDATE callback_origins SET worker = NULL, next_at = ? WHERE origin = ? AND worker = ?",
                (due if due is None else max(due, behind), origin, worker),
            )

        await self._commits.run(unit)

    async def held(self, worker: str) -> set[str]:
        """The origins that a worker holds."""
        rows = await self._database.read("SELECT origin FROM callback_origins WHERE worker = ?", worker)
        return {row["origin"] for row in rows}

    def _disable(self, origin: str, url: str, now: str) -> Unit[None]:
        yield (
            "INSERT INTO callback_disabled_targets (digest, url, disabled_at) VALUES (?, ?, ?) "
            "ON CONFLICT (digest) DO NOTHING",
            (url_digest(url), url, now),
        )
        yield from self._fail("origin = ? AND url = ?", (origin, url), GONE, now)

    def _fail(self, which: str, values: Iterable[Any], why: str, now: str) -> Unit[None]:
        ended = yield (
            "UPDATE callback_deliveries SET status = 'failed', next_attempt_at = NULL, expires_at = ? "
            f"WHERE status = 'pending' AND {which} RETURNING message_id",
            (later(now, self._ttl), *values),
        )
        for row in ended.rows:
            yield attempt(row["message_id"], now, None, why, None)

    # Reading, and replaying

    async def of_job(self, job_id: str) -> list[dict[str, Any]]:
        """The deliveries of a job with their attempts, as its callers see them."""
        deliveries = await self._database.read(
            "SELECT message_id, url, type, status, created_at, next_attempt_at FROM callback_deliveries WHERE job_id = ? "
            "ORDER BY id",
            job_id,
        )
        attempts = await self._database.read(
            "SELECT a.message_id, a.number, a.at, a.status, a.error, a.body FROM callback_attempts a "
            "JOIN callback_deliveries d ON d.message_id = a.message_id WHERE d.job_id = ? ORDER BY a.id",
            job_id,
        )
        of_each: defaultdict[str, Rows] = defaultdict(list)
        for row in attempts:
            of_each[row["message_id"]].append(row)
        return [_document(row, of_each[row["message_id"]]) for row in deliveries]

    async def replay(self, job_id: str, message_id: str, now: str) -> None:
        """Send it once more, whatever became of it, and whatever its URL or origin did before. Raises CallbackNotFound."""

        def unit() -> Unit[bool]:
            again = yield (
                "UPDATE callback_deliveries SET status = 'pending', tries = 0, next_attempt_at = ?, expires_at = NULL "
                "WHERE job_id = ? AND message_id = ? RETURNING url, origin",
                (now, job_id, message_id),
            )
            for row in again.rows:
                yield ("DELETE FROM callback_disabled_targets WHERE digest = ?", (url_digest(row["url"]),))
                yield due_at(row["origin"], AT_ONCE)
                yield ("UPDATE callback_origins SET open_until = NULL WHERE origin = ?", (row["origin"],))
            return again.count > 0

        if not await self._commits.run(unit):
            raise CallbackNotFound("this job has no callback of this id")

    # Keeping house

    async def clean(self, now: str) -> None:
        """Delete deliveries whose time is over, origins with nothing to send, and what was disabled long ago."""
        while await self._forget(now):
            pass

        def unit() -> Unit[None]:
            yield (
                "DELETE FROM callback_origins WHERE worker IS NULL AND next_at IS NULL "
                "AND (open_until IS NULL OR open_until <= ?)",
                (now,),
            )
            yield (
                "DELETE FROM callback_disabled_targets WHERE disabled_at < ?",
                (later(now, -self._disabled_ttl),),
            )

        await self._commits.run(unit)

    async def _forget(self, now: str, limit: int = 500) -> int:

        def unit() -> Unit[int]:
            old = yield ("SELECT message_id FROM callback_deliveries WHERE expires_at < ? LIMIT ?", (now, limit))
            ids = [row["message_id"] for row in old.rows]
            if ids:
                marks = ", ".join("?" for _ in ids)
                for table in ("callback_attempts", "callback_deliveries"):
                    yield (f"DELETE FROM {table} WHERE message_id IN ({marks})", ids)
            return len(ids)

        return await self._commits.run(unit)


def _document(row: Mapping[str, Any], attempts: Rows) -> dict[str, Any]:
    return {
        "id": row["message_id"],
        "url": row["url"],
        "type": row["type"],
        "status": row["status"],
        "next_attempt_at": row["created_at"] if row["next_attempt_at"] == AT_ONCE else row["next_attempt_at"],
        "attempts": [
            {name: attempt[name] for name in ("number", "at", "status", "error", "body")} for attempt in attempts
        ],
    }
