"""The secrets that sign callbacks: one of the service, and one of each key."""

from dataclasses import dataclass

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Hold, Statement, Unit
from ..moments import Clock, later, timestamp, utc_now
from .signature import new_secret

OF_THE_SERVICE = ""  # in place of a key's id


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A secret. `expires_at` is set once there is a newer one."""

    secret: str
    created_at: str
    expires_at: str | None = None


def new_secret_of(key_id: str, now: str) -> Statement:
    return (
        "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES (?, ?, ?)",
        (key_id, new_secret(), now),
    )


class WebhookSecrets:
    def __init__(
        self,
        database: Database,
        commits: GroupCommit,
        overlap: float,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._commits = commits
        self._overlap = overlap
        self._clock = clock

    async def create(self, key_id: str = OF_THE_SERVICE) -> None:
        """Create a secret if there is none."""
        now = timestamp(self._clock())

        def unit() -> Unit[None]:
            yield Hold(f"webhook secrets of {key_id}")
            current = yield ("SELECT 1 FROM webhook_secrets WHERE key_id = ? AND expires_at IS NULL", (key_id,))
            if not current.rows:
                yield new_secret_of(key_id, now)

        await self._commits.run(unit)

    async def rotate(self, key_id: str = OF_THE_SERVICE) -> None:
        """Create a new secret. The old one also signs for QAA_CALLBACK_SECRET_OVERLAP seconds."""
        now = timestamp(self._clock())

        def unit() -> Unit[None]:
            yield Hold(f"webhook secrets of {key_id}")
            yield (
                "UPDATE webhook_secrets SET expires_at = ? WHERE key_id = ? AND (expires_at IS NULL OR expires_at > ?)",
                (until := later(now, self._overlap), key_id, until),
            )
            yield new_secret_of(key_id, now)

        await self._commits.run(unit)

    async def valid_for(self, key_id: str = OF_THE_SERVICE) -> list[WebhookSecret]:
        """Return the valid secrets, newest first."""
        rows = await self._database.read(
            "SELECT secret, created_at, expires_at FROM webhook_secrets "
            "WHERE key_id = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY id DESC",
            key_id,
            timestamp(self._clock()),
        )
        return [WebhookSecret(**row) for row in rows]

    async def signing(self, owner: str | None) -> list[str]:
        """Return the secrets for callbacks of the key `owner`, newest first: its own, or the service's if it has none."""
        own = await self.valid_for(owner) if owner else []
        return [each.secret for each in own or await self.valid_for()]
