"""Temporary tokens for a key: sessions of browsers, and tickets for one request."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Hold, Unit
from ..jobs.queue import SKEW_SECONDS
from ..moments import Clock, later, timestamp, utc_now
from .keys import digest, next_version

TICKET_SECONDS = 30.0
SESSIONS_PER_KEY = 100  # the newest; more would fill the disk
_BYTES = 32
_LENGTH = 43  # of a token: base 64 without padding
_AT_ONCE = 1000  # sessions read by one query


class Kind(StrEnum):
    SESSION = "session"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a browser, by the digest of its token. It is valid until `expires_at`, and only while its key is."""

    digest: str
    key_id: str
    expires_at: str


class AccessTokens:
    """All queries about tokens. Only digests are stored."""

    def __init__(self, database: Database, commits: GroupCommit, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._commits = commits
        self._clock = clock

    async def issue(self, kind: Kind, key_id: str, seconds: float, session: str | None = None) -> tuple[str, str]:
        """Create a token; return it with its expiry. A ticket for a `session` (its digest) ends with the session.

        The oldest session of a key ends when the key has SESSIONS_PER_KEY.
        """
        token = secrets.token_urlsafe(_BYTES)
        expires_at = later(timestamp(self._clock()), seconds)

        def unit() -> Unit[None]:
            if kind is Kind.SESSION:  # so that the next unit to count them sees this one
                yield Hold(f"sessions of {key_id}")
            yield (
                "INSERT INTO access_tokens (digest, kind, key_id, session, expires_at) VALUES (?, ?, ?, ?, ?)",
                (digest(token), kind.value, key_id, session, expires_at),
            )
            if kind is Kind.SESSION:
                oldest = yield (
                    "SELECT digest FROM access_tokens WHERE kind = 'session' AND key_id = ? AND digest <> ? "
                    "ORDER BY expires_at DESC, digest LIMIT 1000 OFFSET ?",
                    (key_id, digest(token), SESSIONS_PER_KEY - 1),
                )
                yield from _ended([row["digest"] for row in oldest.rows])

        await self._commits.run(unit)
        return token, expires_at

    async def session(self, tokens: Sequence[str]) -> Session | None:
        """Return the first of `tokens` that is a session."""
        digests = _digests(tokens)
        found = await self.sessions(digests)
        return next((found[each] for each in digests if each in found), None)

    async def sessions(self, digests: Collection[str]) -> Mapping[str, Session]:
        """Return those of `digests` that are valid sessions."""
        wanted, found = tuple(digests), {}
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            rows = await self._database.read(
                f"SELECT digest, key_id, expires_at FROM access_tokens WHERE digest IN ({_marks(some)}) "
                "AND kind = 'session' AND expires_at > ?",
                *some,
                timestamp(self._clock()),
            )
            found.update({row["digest"]: Session(**row) for row in rows})
        return found

    async def take_ticket(self, token: str) -> tuple[str, str | None] | None:
        """The id of the key whose ticket it is, and the digest of the session that asked for it, if one did. Only once.

        A ticket of a clock that was ahead is refused: it would be good for longer than TICKET_SECONDS.
        """
        now = timestamp(self._clock())

        def unit() -> Unit[tuple[str, str | None] | None]:
            taken = yield (
                "DELETE FROM access_tokens WHERE digest = ? AND kind = 'ticket' AND expires_at > ? AND expires_at <= ? "
                "RETURNING key_id, session",
                (digest(token), now, later(now, TICKET_SECONDS + SKEW_SECONDS)),
            )
            if not taken.rows:
                return None
            key_id, session = taken.rows[0]["key_id"], taken.rows[0]["session"]
            if session is not None:
                live = yield ("SELECT 1 FROM access_tokens WHERE digest = ? AND expires_at > ?", (session, now))
                if not live.rows:
                    return None
            return key_id, session

        return await self._commits.run(unit)

    async def end(self, tokens: Sequence[str]) -> None:
        """Delete tokens. The end of a session counts as a change of its key, so that all processes check its streams."""
        if digests := _digests(tokens):
            await self._commits.run(lambda: _ended(digests))

    async def forget(self, now: str) -> None:
        """Delete expired tokens."""

        def unit() -> Unit[None]:
            yield ("DELETE FROM access_tokens WHERE expires_at <= ?", (now,))

        await self._commits.run(unit)


def _ended(digests: Sequence[str]) -> Unit[None]:
    if not digests:
        return
    version = yield from next_version()
    yield (
        "UPDATE api_keys SET version = ? WHERE id IN "
        f"(SELECT key_id FROM access_tokens WHERE kind = 'session' AND digest IN ({_marks(digests)}))",
        (version, *digests),
    )
    yield (f"DELETE FROM access_tokens WHERE digest IN ({_marks(digests)})", digests)


def _digests(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct texts with the form of a token: others cost no query."""
    return tuple(dict.fromkeys(digest(token) for token in tokens if len(token) == _LENGTH))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)
