"""What stands for a key for a while: a browser's session, and a ticket that is good for one request."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Unit
from ..jobs.states import later, timestamp
from .keys import digest

TICKET_SECONDS = 30.0


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
        token = secrets.token_urlsafe(32)
        expires_at = later(timestamp(self._clock()), seconds)

        def unit() -> Unit[None]:
            yield (
                "INSERT INTO access_tokens (digest, kind, key_id, expires_at) VALUES (?, ?, ?, ?)",
                (digest(token), kind.value, key_id, expires_at),
            )

        await self._commits.run(unit)
        return token, expires_at

    async def session(self, token: str) -> str | None:
        """The id of the key whose session it is."""
        rows = await self._database.read(
            "SELECT key_id FROM access_tokens WHERE digest = ? AND kind = 'session' AND expires_at > ?",
            digest(token),
            timestamp(self._clock()),
        )
        return rows[0]["key_id"] if rows else None

    async def take_ticket(self, token: str) -> str | None:
        """The id of the key whose ticket it is, once."""

        def unit() -> Unit[str | None]:
            taken = yield (
                "DELETE FROM access_tokens WHERE digest = ? AND kind = 'ticket' AND expires_at > ? RETURNING key_id",
                (digest(token), timestamp(self._clock())),
            )
            return taken.rows[0]["key_id"] if taken.rows else None

        return await self._commits.run(unit)

    async def end(self, token: str) -> None:
        def unit() -> Unit[None]:
            yield ("DELETE FROM access_tokens WHERE digest = ?", (digest(token),))

        await self._commits.run(unit)

    async def forget(self, now: str) -> None:
        """Delete those whose time is over."""

        def unit() -> Unit[None]:
            yield ("DELETE FROM access_tokens WHERE expires_at <= ?", (now,))

        await self._commits.run(unit)
