"""Users: create, read, change, delete. Every function needs a bound database (`Database.bind`)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

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


async def create(name: str, email: str) -> UserRecord:
    """Create a user. Emails are compared without case. Raises EmailTaken."""
    try:
        return _record(await User.create(name=name, email=email, email_key=email.casefold()))
    except IntegrityError as error:
        raise EmailTaken(str(EmailTaken.__doc__)) from error


async def check_room(most: int) -> None:
    """Raise QuotaExceeded where there are `most` users already; 0: no limit."""
    if not most:
        return
    last = await User.all().order_by("-id").first()
    # Ids count up from 1 and are never reused: below `most`, no count is needed.
    if last is not None and last.id >= most and await User.all().count() >= most:
        detail = f"{most} users are stored already: delete some, or raise QAA_MAX_USERS"
        raise QuotaExceeded("users", detail, FULL_RETRY_SECONDS)


async def get(user_id: int) -> UserRecord:
    """Return a user. Raises UserNotFound, also for numbers outside the range of ids."""
    return _record(await _found(user_id))


async def page(limit: int, after: int = 0) -> list[UserRecord]:
    """Return at most `limit` users with ids above `after`, by id."""
    return [_record(row) for row in await User.filter(id__gt=min(after, _MAX_ID)).order_by("id").limit(limit)]


async def update(
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
        async with in_transaction():
            row = await _lock(user_id, expected)
            if name is not None:
                row.name = name
            if email is not None:
                row.email, row.email_key = email, email.casefold()
            await row.save(update_fields=("name", "email", "email_key"))
    except IntegrityError as error:
        raise EmailTaken(str(EmailTaken.__doc__)) from error
    return _record(row)


async def delete(user_id: int, *, expected: Callable[[str], bool] | None = None) -> None:
    """Raises UserNotFound, StaleVersion where `expected` says no. An id is never given out again."""
    async with in_transaction():
        await (await _lock(user_id, expected)).delete()


async def _lock(user_id: int, expected: Callable[[str], bool] | None) -> User:
    """The row, which nobody else can write before this transaction ends."""
    row = await _found(user_id, lock=True)
    if expected is not None and not expected(_record(row).version):
        raise StaleVersion(str(StaleVersion.__doc__))
    return row


async def _found(user_id: int, *, lock: bool = False) -> User:
    rows = User.select_for_update() if lock else User.all()
    row = await rows.get_or_none(id=user_id) if 0 < user_id <= _MAX_ID else None
    if row is None:
        raise UserNotFound(str(UserNotFound.__doc__))
    return row


def _record(row: User) -> UserRecord:
    return UserRecord(id=row.id, name=row.name, email=row.email)
