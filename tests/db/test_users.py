"""Users keep their promises under a race, and with any number for an id."""

import asyncio
from typing import cast

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit, Unit
from quart_async_api.errors import EmailTaken, KeyTaken, QuotaExceeded, StaleVersion, UserNotFound
from quart_async_api.jobs.usage import NO_QUOTA, Quota
from quart_async_api.services.idempotency import Key, Reply
from quart_async_api.services.users import UserRecord, UserReply, Users


@pytest.fixture
def commits(database: Database) -> GroupCommit:
    return GroupCommit(database)


@pytest.fixture
def users(database: Database, commits: GroupCommit) -> Users:
    return Users(database, commits)


async def test_a_user_is_made_read_changed_and_deleted(users: Users) -> None:
    made = await users.create("Ada", "Ada@example.org")
    assert made == await users.get(made.id) == UserRecord(made.id, "Ada", "Ada@example.org")
    changed = await users.update(made.id, name="Ada L.")
    assert changed == await users.get(made.id) == UserRecord(made.id, "Ada L.", "Ada@example.org")
    assert await users.update(made.id) == changed
    await users.delete(made.id)
    for call in (users.get(made.id), users.update(made.id, name="x"), users.delete(made.id)):
        with pytest.raises(UserNotFound, match="User not found"):
            await call


async def test_an_email_is_taken_whatever_its_case(users: Users) -> None:
    first = await users.create("a", "Straße@example.org")
    second = await users.create("b", "b@example.org")
    with pytest.raises(EmailTaken):
        await users.create("c", "STRASSE@EXAMPLE.ORG")
    with pytest.raises(EmailTaken):
        await users.update(second.id, email="straSSe@example.org")
    assert await users.get(second.id) == second
    assert (await users.update(first.id, email="STRASSE@example.org")).email == "STRASSE@example.org"


async def test_one_of_many_at_once_gets_the_email(users: Users) -> None:
    ended = await asyncio.gather(
        *(users.create(str(number), "a@example.org") for number in range(30)), return_exceptions=True
    )
    assert sum(isinstance(end, UserRecord) for end in ended) == 1
    assert sum(isinstance(end, EmailTaken) for end in ended) == 29


async def test_one_of_many_with_the_same_version_wins(users: Users) -> None:
    made = await users.create("a", "a@example.org")

    async def rename(number: int) -> UserRecord:
        return await users.update(made.id, name=str(number), expected=lambda version: version == made.version)

    ended = await asyncio.gather(*(rename(number) for number in range(20)), return_exceptions=True)
    [winner] = [end for end in ended if isinstance(end, UserRecord)]
    assert sum(isinstance(end, StaleVersion) for end in ended) == 19
    assert await users.get(made.id) == winner
    with pytest.raises(StaleVersion):
        await users.delete(made.id, expected=lambda version: version == made.version)
    await users.delete(made.id, expected=lambda version: version == winner.version)


async def test_a_version_follows_the_content(users: Users) -> None:
    made = await users.create("a", "a@example.org")
    changed = await users.update(made.id, name="b")
    assert made.version != changed.version
    assert (await users.update(made.id, name="a")).version == made.version
    assert UserRecord(1, "ab", "c").version != UserRecord(1, "a", "bc").version


@pytest.mark.parametrize("number", [-1, 0, 2**63 - 1, 2**63, 10**30])
async def test_a_number_that_is_no_id_is_nobody(users: Users, number: int) -> None:
    for call in (users.get(number), users.update(number, name="x"), users.delete(number)):
        with pytest.raises(UserNotFound):
            await call


async def test_pages_follow_each_other_by_id(users: Users) -> None:
    made = [await users.create(str(number), f"{number}@example.org") for number in range(5)]
    assert await users.page(2) == made[:2]
    assert await users.page(2, after=made[1].id) == made[2:4]
    assert await users.page(2, after=made[3].id) == made[4:]
    assert await users.page(2, after=10**30) == []


@pytest.mark.parametrize("text", ["'; DROP TABLE users; --", "%s $1 ?", "\U0001f600 ñ ﷽", '"', "\\", "x" * 50])
async def test_any_text_comes_back_as_it_was(users: Users, text: str, database: Database) -> None:
    made = await users.create(text, "a@example.org")
    assert (await users.get(made.id)).name == text
    await database.ping()


async def test_users_are_counted_only_where_there_may_be_too_many(
    users: Users, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0
    full = users._full

    def watched(most: int) -> Unit[QuotaExceeded | None]:
        nonlocal counted
        unit = full(most)
        try:
            statement = next(unit)
            while True:
                counted += isinstance(statement, tuple) and "COUNT" in statement[0]
                statement = unit.send((yield statement))
        except StopIteration as end:
            return cast("QuotaExceeded | None", end.value)

    monkeypatch.setattr(users, "_full", watched)
    made = [await users.create("a", f"{number}@example.org", most=5) for number in range(5)]
    assert counted == 0
    with pytest.raises(QuotaExceeded):
        await users.create("a", "5@example.org", most=5)
    assert counted == 1
    for user in made[:4]:
        await users.delete(user.id)
    for number in range(6, 10):
        await users.create("a", f"{number}@example.org", most=5)
    assert counted <= 4  # 2 on SQLite; on PostgreSQL, refused rows have taken ids as well
    with pytest.raises(QuotaExceeded):
        await users.create("a", "10@example.org", most=5)
    assert len(await database.rows("SELECT 1 FROM users")) == 5


async def test_a_user_whose_answer_cannot_be_kept_is_not_there_and_fails_no_other(
    users: Users, database: Database
) -> None:
    def reply_of(user: UserRecord) -> Reply:
        return Reply(201, {}, user.name, None)

    key = Key("digest", "fingerprint", 60, "")
    kept = UserReply(key, reply_of, NO_QUOTA)
    too_big = UserReply(Key("other", "fingerprint", 60, ""), reply_of, Quota(size=1))
    first = await users.create("a", "a@example.org", reply=kept)
    outcomes = await asyncio.gather(
        users.create("b", "b@example.org", reply=kept),
        users.create("c", "c@example.org", reply=too_big),
        users.create("d", "d@example.org"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [KeyTaken, QuotaExceeded, UserRecord]
    assert await database.rows("SELECT name FROM users ORDER BY id") == [("a",), ("d",)]
    assert await users.get(first.id) == first


async def test_users_that_are_added_at_once_share_a_commit(users: Users, commits: GroupCommit) -> None:
    made = await asyncio.gather(*(users.create("a", f"{number}@example.org") for number in range(100)))
    assert len({user.id for user in made}) == 100
    assert commits.commits <= 2
