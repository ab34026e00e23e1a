"""What stands for a key for a while: a browser's session, and a ticket that is good for one request."""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Unit
from ..jobs.queue import SKEW_SECONDS
from ..jobs.states import later, timestamp
from .keys import digest

TICKET_SECONDS = 30.0
_BYTES = 32
_LENGTH = 43  # of a token: base 64 without padding


class Kind(StrEnum):
    SESSION = "session"
    TICKET = "ticket"


class AccessTokens:
    """Only digests of them are kept."""

    def __init__(
        self, database: Database, commits: GroupCommit, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._commits = commits
        self._clock = clock

    async def issue(self, kind: Kind, key_id: str, seconds: float) -> tuple[str, str]:
        """A new token and when it expires."""
        token = secrets.token_urlsafe(_BYTES)
        expires_at = later(timestamp(self._clock()), seconds)

        def unit() -> Unit[None]:
            yield (
                "INSERT INTO access_tokens (digest, kind, key_id, expires_at) VALUES (?, ?, ?, ?)",
                (digest(token), kind.value, key_id, expires_at),
            )

        await self._commits.run(unit)
        return token, expires_at

    async def session(self, tokens: Sequence[str]) -> str | None:
        """The id of the key of the first of `tokens` that is a session."""
        digests = _digests(tokens)
        if not digests:
            return None
        rows = await self._database.read(
            f"SELECT digest, key_id FROM access_tokens WHERE digest IN ({_marks(digests)}) "
            "AND kind = 'session' AND expires_at > ?",
            *digests,
            timestamp(self._clock()),
        )
        found = {row["digest"]: row["key_id"] for row in rows}
        return next((found[each] for each in digests if each in found), None)

    async def take_ticket(self, token: str) -> str | None:
        """The id of the key whose ticket it is, once. A ticket of a clock that was ahead counts for none: it would live on."""
        now = timestamp(self._clock())

        def unit() -> Unit[str | None]:
            taken = yield (
                "DELETE FROM access_tokens WHERE digest = ? AND kind = 'ticket' AND expires_at > ? AND expires_at <= ? "
                "RETURNING key_id",
                (digest(token), now, later(now, TICKET_SECONDS + SKEW_SECONDS)),
            )
            return taken.rows[0]["key_id"] if taken.rows else None

        return await self._commits.run(unit)

    async def end(self, tokens: Sequence[str]) -> None:
        digests = _digests(tokens)

        def unit() -> Unit[None]:
            yield (f"DELETE FROM access_tokens WHERE digest IN ({_marks(digests)})", digests)

        if digests:
            await self._commits.run(unit)

    async def forget(self, now: str) -> None:
        """Delete those whose time is over."""

        def unit() -> Unit[None]:
            yield ("DELETE FROM access_tokens WHERE expires_at <= ?", (now,))

        await self._commits.run(unit)


def _digests(tokens: Sequence[str]) -> tuple[str, ...]:
    """Of those that look like tokens, each once: whatever else a client sends costs no query."""
    return tuple(dict.fromkeys(digest(token) for token in tokens if len(token) == _LENGTH))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)
