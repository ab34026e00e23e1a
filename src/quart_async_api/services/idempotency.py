"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): the first response to a key, stored with its work."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from ..db.connection import Database
from ..db.group_commit import Unit
from ..errors import KeyReused, KeyTaken, ServiceError
from ..jobs import usage
from ..jobs.states import JobRecord
from ..jobs.usage import Quota
from ..moments import Clock, later, timestamp, utc_now
from ..stored import stored


@dataclass(frozen=True, slots=True)
class Reply:
    """A stored response."""

    status: int
    headers: dict[str, str]
    body: str
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one caller for one route. `fingerprint` tells this request from another with the same key.

    `owner` is the id of the caller's API key, '' without one.
    """

    digest: str
    fingerprint: str
    ttl: float
    owner: str


@dataclass(frozen=True, slots=True)
class JobReply:
    """The answer to store for a key with its job."""

    key: Key
    reply_of: Callable[[JobRecord], Reply]

    def size(self, job: JobRecord) -> int:
        return size_of(self.key, self.reply_of(job))

    def remember(self, job: JobRecord, now: str) -> Unit[bool]:
        """Store the answer. Return False if the key is taken."""
        return remember(self.key, self.reply_of(job), now)


def digest(*parts: str | bytes) -> str:
    """Return the SHA-256 of these parts in hex. Each is preceded by its length, so that no two lists have the same bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8) + data)
    return hashed.hexdigest()


def remember(key: Key, reply: Reply, now: str) -> Unit[bool]:
    """Store the answer, and count its bytes. Return False if the key is taken. Deletes an expired answer first."""
    expired = yield (
        "DELETE FROM idempotency_keys WHERE key = ? AND expires_at < ? RETURNING owner, bytes",
        (key.digest, now),
    )
    yield from usage.removed(expired.rows, jobs=0)
    headers = json.dumps(reply.headers)
    size = size_of(key, reply)
    kept = yield (
        "INSERT INTO idempotency_keys (key, fingerprint, job_id, status, headers, body, expires_at, owner, bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (
            key.digest,
            key.fingerprint,
            reply.job_id,
            reply.status,
            headers,
            reply.body,
            later(now, key.ttl),
            key.owner,
            size,
        ),
    )
    if kept.count < 1:
        return False
    yield usage.answered(key.owner, size)
    return True


def keep(key: Key, reply: Reply, quota: Quota, now: str) -> Unit[ServiceError | None]:
    """Do the same within `quota`. Return the error that refuses it, KeyTaken or QuotaExceeded, or None."""
    used = yield ("SELECT bytes FROM job_usage WHERE owner = ?", (key.owner,))
    size = size_of(key, reply)
    if (full := usage.past(quota, key.owner, used.rows[0]["bytes"] if used.rows else 0, size)) is not None:
        return full
    if not (yield from remember(key, reply, now)):
        return KeyTaken()
    yield usage.within(key.owner, quota)
    return None


def size_of(key: Key, reply: Reply) -> int:
    """Return the size in bytes of the texts that are stored for an answer."""
    return usage.size_of([("", (key.digest, key.fingerprint, json.dumps(reply.headers), reply.body, key.owner))])


class Idempotency:
    """The stored answers. `in_flight`: digests of the keys whose first request runs in this process."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
        self.in_flight: set[str] = set()

    async def reply(self, key: Key) -> Reply | None:
        """Return the stored answer of this key, or None. Raises KeyReused if another request had the key, Unreadable."""
        rows = await self._database.read(
            "SELECT * FROM idempotency_keys WHERE key = ? AND expires_at >= ?", key.digest, timestamp(self._clock())
        )
        if not rows:
            return None
        row = rows[0]
        if row["fingerprint"] != key.fingerprint:
            raise KeyReused("this Idempotency-Key came with another request before; make a new one")
        headers = stored(row["headers"], f"the answer kept for the Idempotency-Key of digest {key.digest}", dict)
        return Reply(row["status"], headers, row["body"], row["job_id"])
