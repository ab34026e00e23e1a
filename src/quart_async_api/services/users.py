"""Users: create, read, change, delete."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap

import msgspec
from tortoise.exceptions import IntegrityError

from ..db.connection import Database
from ..db.group_commit import Crossed, GroupCommit, Hold, Unit
from ..db.models import User
from ..errors import EmailTaken, QuotaExceeded, ServiceError, StaleVersion, UserNotFound
from ..jobs.usage import Quota
from ..moments import Clock, timestamp, utc_now
from .idempotency import Key, Reply, keep

_MAX_ID = 2**63 - 1
FULL_RETRY_SECONDS = 3600


class UserRecord(msgspec.Struct, frozen=True, gc=False):
    """A stored user. `version` changes with every field, and is equal on both databases: a strong validator."""

    id: int
    name: str
    email: str

    @property
    def version(self) -> str:
        return hashlib.sha256("\0".join((str(self.id), self.name, self.email)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class UserReply:
    """The answer to store for an Idempotency-Key with its user, within `quota`."""

    key: Key
    reply_of: Callable[[UserRecord], Reply]
    quota: Quota


class Users:
    """The users of one database."""

    def __init__(self, database: Database, commits: GroupCommit, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._commits = commits
        self._clock = clock
        self._counted, self._last_counted = 0, 0  # users, and the last id, when they were counted
        self._is_near = False  # there may be more than half as many as the limit

    async def create(self, name: str, email: str, *, most: int = 0, reply: UserReply | None = None) -> UserRecord:
        """Create a user, and keep the answer to its request in the same transaction. Emails are compared without case.

        `most` users are stored; 0: no limit. Raises EmailTaken, QuotaExceeded, KeyTaken.
        """

        def unit() -> Unit[UserRecord | ServiceError]:
            # Errors are returned, not raised: an exception would fail the rest of the batch.
            if most and (full := (yield from self._full(most))) is not None:
                return full
            added = yield (
                "INSERT INTO users (name, email, email_key) VALUES (?, ?, ?) "
                "ON CONFLICT (email_key) DO NOTHING RETURNING id",
                (name, email, email.casefold()),
            )
            if not added.rows:
                return EmailTaken(str(EmailTaken.__doc__))
            user = UserRecord(added.rows[0]["id"], name, email)
            if reply is not None:
                refusal = yield from keep(reply.key, reply.reply_of(user), reply.quota, timestamp(self._clock()))
                if refusal is not None:
                    yield ("DELETE FROM users WHERE id = ?", (user.id,))
                    return refusal
            return user

        outcome = await self._commits.run(unit)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    def _full(self, most: int) -> Unit[QuotaExceeded | None]:
        """Return the error if there are `most` users already.

        Ids count up from 1 and are never reused, so there are at most as many new users as new ids since the last count. Above
        half of the limit, one transaction at a time adds users, so that each counts those of the others. Below, they go on
        together: what they add at one time is less than the other half.
        """
        held = yield Hold("users", shared=not self._is_near)
        found = yield ("SELECT MAX(id) AS last FROM users", ())
        last: int = found.rows[0]["last"] or 0
        bound = self._counted + last - self._last_counted
        if held.count and not self._is_near and 2 * bound >= most:
            self._is_near = True
            raise Crossed("there may be nearly as many users as the limit")  # and runs again, alone
        if bound < most:
            return None
        counted = yield ("SELECT COUNT(*) AS n FROM users", ())
        self._counted, self._last_counted = counted.rows[0]["n"], last
        self._is_near = 2 * self._counted >= most
        if self._counted < most:
            return None
        detail = f"{most} users are stored already: delete some, or raise QAA_MAX_USERS"
        return QuotaExceeded("users", detail, FULL_RETRY_SECONDS)

    async def get(self, user_id: int) -> UserRecord:
        """Return a user. Raises UserNotFound, also for numbers outside the range of ids."""
        if 0 < user_id <= _MAX_ID:
            for row in await self._database.rows("SELECT id, name, email FROM users WHERE id = ?", user_id):
                return UserRecord(*row)
        raise _unknown()

    async def page(self, limit: int, after: int = 0) -> list[UserRecord]:
        """Return at most `limit` users with ids above `after`, by id."""
        page = "SELECT id, name, email FROM users WHERE id > ? ORDER BY id LIMIT ?"
        return list(starmap(UserRecord, await self._database.rows(page, min(after, _MAX_ID), limit)))

    async def update(
        self,
        user_id: int,
        *,
        name: str | None = None,
        email: str | None = None,
        expected: Callable[[str], bool] | None = None,
    ) -> UserRecord:
        """Change the given members. `expected` checks the current version while the row is locked.

        Raises UserNotFound, StaleVersion if `expected` returns False, EmailTaken.
        """
        try:
            async with self._database.transaction():
                row = await _locked(user_id, expected)
                if name is not None:
                    row.name = name
                if email is not None:
                    row.email, row.email_key = email, email.casefold()
                await row.save(update_fields=("name", "email", "email_key"))
        except IntegrityError as error:
            raise EmailTaken(str(EmailTaken.__doc__)) from error
        return _record(row)

    async def delete(self, user_id: int, *, expected: Callable[[str], bool] | None = None) -> None:
        """Delete a user, whose id is never used again. Raises UserNotFound, StaleVersion if `expected` returns False."""
        async with self._database.transaction():
            await (await _locked(user_id, expected)).delete()


async def _locked(user_id: int, expected: Callable[[str], bool] | None) -> User:
    """Return the row, locked until the transaction of this task ends."""
    row = await User.select_for_update().get_or_none(id=user_id) if 0 < user_id <= _MAX_ID else None
    if row is None:
        raise _unknown()
    if expected is not None and not expected(_record(row).version):
        raise StaleVersion(str(StaleVersion.__doc__))
    return row


def _unknown() -> UserNotFound:
    return UserNotFound(str(UserNotFound.__doc__))


def _record(row: User) -> UserRecord:
    return UserRecord(id=row.id, name=row.name, email=row.email)
