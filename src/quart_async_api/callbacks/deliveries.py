"""The deliveries and their attempts: sending, recording outcomes, replaying and deleting."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Hold, Statement, Unit
from ..errors import CallbackNotFound
from ..jobs.queue import SKEW_SECONDS
from ..moments import later
from ..settings import Settings
from .queues import Queue, forget_idle, heard, reopened

REVOKED = "not tried: the API key of this job is revoked; a replay by an admin sends it"
SUPERSEDED = "not tried: something newer has happened to the job"
UNUSABLE = "set aside: it cannot be processed ({}, see the service's log); a replay tries it again"
GONE = "not tried: the URL has answered 410 Gone; a replay tries it again"
GAVE_UP = "not tried: the origin did not answer until the schedule was over"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A pending callback. `tries` counts the attempts since its creation or last replay. A replay changes `next_attempt_at`.

    `forced`: send it even if its key is revoked.
    """

    message_id: str
    owner: str
    url: str
    type: str
    body: str
    traceparent: str | None
    tries: int
    next_attempt_at: str
    forced: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt. `body` is the beginning of the response; `alive`: the origin responded, not with 429 or 5xx.

    `again_at` is the time of the next attempt; None: no more. `closed_until` is when the queue opens again.
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
    PAUSE = auto()  # send nothing of this queue for a while
    LOST = auto()  # another worker has the queue


class Deliveries:
    """The deliveries of one database. Times are arguments (timestamps): no method reads the clock."""

    def __init__(self, database: Database, commits: GroupCommit, settings: Settings) -> None:
        self._database = database
        self._commits = commits
        self._ttl = settings.result_ttl
        self._disabled_ttl = settings.tombstone_ttl

    # Sending

    async def due(self, queue: Queue, now: str, limit: int) -> list[Delivery]:
        """Return the due deliveries of a queue, in the order of their events.

        Includes those that a clock that was ahead has scheduled too late.
        """
        rows = await self._database.read(
            "SELECT message_id, owner, url, type, body, traceparent, tries, next_attempt_at, forced FROM callback_deliveries "
            "WHERE origin = ? AND owner = ? AND status = 'pending' AND (next_attempt_at <= ? OR set_at > ?) "
            "ORDER BY id LIMIT ?",
            queue.origin,
            queue.owner,
            now,
            later(now, SKEW_SECONDS),
            limit,
        )
        return [Delivery(**row) for row in rows]

    async def is_revoked(self, key_id: str) -> bool:
        """Return whether this key is revoked. False for an expired key and an unknown id."""
        return bool(await self._database.read("SELECT 1 FROM api_keys WHERE id = ? AND revoked_at IS NOT NULL", key_id))

    async def refuse(self, queue: Queue, now: str) -> int:
        """End the pending deliveries of a revoked key, except replayed ones. Return their number."""
        return await self._commits.run(
            lambda: self._fail("origin = ? AND owner = ? AND forced = 0", (queue.origin, queue.owner), REVOKED, now)
        )

    async def is_superseded(self, message_id: str) -> bool:
        """Return whether the same job has a newer delivery. False for a replayed delivery before its first attempt."""
        return bool(
            await self._database.read(
                "SELECT 1 FROM callback_deliveries d JOIN callback_deliveries n ON n.job_id = d.job_id AND n.id > d.id "
                "WHERE d.message_id = ? AND (d.tries > 0 OR NOT EXISTS "
                "(SELECT 1 FROM callback_attempts a WHERE a.message_id = d.message_id)) LIMIT 1",
                message_id,
            )
        )

    async def record(
        self, queue: Queue, worker: str, delivery: Delivery, outcome: Outcome, give_up_before: str
    ) -> tuple[Next, int]:
        """Write the outcome of an attempt. Return whether to go on with this queue, and how many others were given up.

        If the queue stays closed, give up deliveries created before `give_up_before` that never had an attempt.
        """

        def unit() -> Unit[tuple[Next, int]]:
            if outcome.gone:
                yield _hold(delivery.url)
            yield queue.turn
            held = yield heard(queue, worker, outcome.closed_until, alive=outcome.alive)
            if not held.count:
                return Next.LOST, 0
            yield attempt(delivery.message_id, outcome.at, outcome.status, outcome.error, outcome.body)
            pending = not outcome.delivered and outcome.again_at is not None
            status = "pending" if pending else "delivered" if outcome.delivered else "failed"
            expires_at = None if pending else later(outcome.at, self._ttl)
            yield (
                "UPDATE callback_deliveries SET status = ?, tries = tries + 1, next_attempt_at = ?, set_at = ?, expires_at = ? "
                "WHERE message_id = ? AND next_attempt_at = ?",  # no match: it was replayed meanwhile, and is sent again
                (status, outcome.again_at, outcome.at, expires_at, delivery.message_id, delivery.next_attempt_at),
            )
            if outcome.gone:
                others = yield from self._disable(queue.origin, delivery.url, outcome.at)
                return Next.PAUSE, others  # the batch may have more deliveries to that URL
            if outcome.closed_until is None:
                return Next.GO_ON, 0
            others = yield from self._fail(
                "origin = ? AND owner = ? AND created_at < ? AND (next_attempt_at = '' OR next_attempt_at < ?)",
                (queue.origin, queue.owner, give_up_before, give_up_before),
                GAVE_UP,
                outcome.at,
            )
            return Next.PAUSE, others

        return await self._commits.run(unit)

    async def drop(self, message_id: str, now: str) -> None:
        """End a superseded delivery."""
        await self._commits.run(lambda: self._fail("message_id = ?", (message_id,), SUPERSEDED, now))

    async def set_aside(self, message_id: str, why: str, now: str) -> None:
        """End a delivery that cannot be processed; `why` names the error."""
        await self._commits.run(lambda: self._fail("message_id = ?", (message_id,), UNUSABLE.format(why), now))

    def _disable(self, origin: str, url: str, now: str) -> Unit[int]:
        yield (
            "INSERT INTO callback_disabled_targets (digest, url, disabled_at) VALUES (?, ?, ?) "
            "ON CONFLICT (digest) DO NOTHING",
            (url_digest(url), url, now),
        )
        owners = yield ("SELECT owner FROM callback_queues WHERE origin = ?", (origin,))
        ended = 0
        for row in owners.rows:
            ended += yield from self._fail(
                "origin = ? AND owner = ? AND url = ?", (origin, row["owner"], url), GONE, now
            )
        return ended

    def _fail(self, which: str, values: Iterable[Any], why: str, now: str) -> Unit[int]:
        ended = yield (
            "UPDATE callback_deliveries SET status = 'failed', next_attempt_at = NULL, expires_at = ? "
            f"WHERE status = 'pending' AND {which} RETURNING message_id",
            (later(now, self._ttl), *values),
        )
        for row in ended.rows:
            yield attempt(row["message_id"], now, None, why, None)
        return len(ended.rows)

    # Replay

    async def replay(self, job_id: str, message_id: str, now: str) -> None:
        """Send a callback again, even if it was delivered, its URL answered 410, its origin fails, or its key is revoked.

        Raises CallbackNotFound.
        """

        def unit() -> Unit[bool]:
            found = yield (
                "SELECT url, origin, owner FROM callback_deliveries WHERE job_id = ? AND message_id = ?",
                (job_id, message_id),
            )
            if not found.rows:
                return False
            [row] = found.rows
            queue = Queue(row["owner"], row["origin"])
            yield _hold(row["url"])
            yield queue.turn
            yield from reopened(queue, now)
            again = yield (
                "UPDATE callback_deliveries SET status = 'pending', tries = 0, next_attempt_at = ?, set_at = ?, "
                "expires_at = NULL, forced = CASE WHEN EXISTS (SELECT 1 FROM api_keys k "
                "WHERE k.id = callback_deliveries.owner AND k.revoked_at IS NOT NULL) THEN 1 ELSE 0 END "
                "WHERE job_id = ? AND message_id = ?",
                (now, now, job_id, message_id),
            )
            yield ("DELETE FROM callback_disabled_targets WHERE digest = ?", (url_digest(row["url"]),))
            return again.count > 0

        if not await self._commits.run(unit):
            raise CallbackNotFound("this job has no callback of this id")

    # Clean up

    async def clean(self, now: str) -> None:
        """Delete expired deliveries, queues with nothing to send, and old records of disabled URLs."""
        while await self._forget(now):
            pass
        while await self._commits.run(lambda: forget_idle(now)):
            pass

        def unit() -> Unit[None]:
            yield (
                "DELETE FROM callback_disabled_targets WHERE disabled_at < ?",
                (later(now, -self._disabled_ttl),),
            )

        await self._commits.run(unit)

    async def _forget(self, now: str, limit: int = 500) -> int:

        def unit() -> Unit[int]:
            old = yield (
                "SELECT message_id FROM callback_deliveries WHERE expires_at < ? LIMIT ? /*FOR UPDATE SKIP LOCKED*/",
                (now, limit),
            )
            ids = [row["message_id"] for row in old.rows]
            if ids:
                marks = ", ".join("?" for _ in ids)
                for table in ("callback_attempts", "callback_deliveries"):
                    yield (f"DELETE FROM {table} WHERE message_id IN ({marks})", ids)
            return len(ids)

        return await self._commits.run(unit)


def _hold(url: str) -> Hold:
    """Hold what is known of a URL, which is one thing for all queues: who disables it, and who tries it again, take turns."""
    return Hold(f"callbacks to {url_digest(url)}")


def url_digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def attempt(message_id: str, at: str, status: int | None, error: str | None, body: str | None) -> Statement:
    """Insert one attempt of a delivery, with the next number."""
    return (
        "INSERT INTO callback_attempts (message_id, number, at, status, error, body) "
        "SELECT ?, COALESCE(MAX(number), 0) + 1, ?, CAST(? AS INTEGER), ?, ? FROM callback_attempts WHERE message_id = ?",
        (message_id, at, status, error, body, message_id),
    )
