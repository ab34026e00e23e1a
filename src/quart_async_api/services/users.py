"""Users: create, read, change, delete."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import starmap

from tortoise.exceptions import IntegrityError

from ..db.connection import Database
from ..db.models import User
from ..errors import EmailTaken, QuotaExceeded, StaleVersion, UserNotFound

_MAX_ID = 2**63 - 1
FULL_RETRY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A stored user. `version` changes with every field, and is equal on both databases: a strong validator."""

    id: int
    name: str
    email: str

    @property
    def version(self) -> str:
        return hashlib.sha256("\0".join((str(self.id), self.name, self.email)).encode()).hexdigest()[:32]


class Users:
    """The users of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, email: str) -> UserRecord:
        """Create a user. Emails are compared without case. Raises EmailTaken."""
        try:
            with self._database.bind():
                return _record(await User.create(name=name, email=email, email_key=email.casefold()))
        except IntegrityError as error:
            raise EmailTaken(str(EmailTaken.__doc__)) from error

    async def check_room(self, most: int) -> None:
        """Raise QuotaExceeded where there are `most` users already; 0: no limit."""
        if not most:
            return
        with self._database.bind():
            last = await User.all().order_by("-id").first()
            # Ids count up from 1 and are never reused: below `most`, no count is needed.
            if last is not None and last.id >= most and await User.all().count() >= most:
                detail = f"{most} users are stored already: delete some, or raise QAA_MAX_USERS"
                raise QuotaExceeded("users", detail, FULL_RETRY_SECONDS)

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
        """Change what is given. `expected` is asked about the current version while the row is locked.

        Raises UserNotFound, StaleVersion where `expected` says no, EmailTaken.
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
        """Raises UserNotFound, StaleVersion where `expected` says no. An id is never given out again."""
        async with self._database.transaction():
            await (await _locked(user_id, expected)).delete()


async def _locked(user_id: int, expected: Callable[[str], bool] | None) -> User:
    """The row, which nobody else can write before the transaction of this task ends."""
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
