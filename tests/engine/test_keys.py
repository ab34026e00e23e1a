"""Keys, tokens and webhook secrets, on each backend: what one process does, the others know at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from quart_async_api.access.caller import Scope
from quart_async_api.access.key_ring import KeyRing
from quart_async_api.access.keys import KeyStore, id_of
from quart_async_api.access.tokens import SESSIONS_PER_KEY, AccessTokens, Kind
from quart_async_api.background.tasks import BackgroundTasks
from quart_async_api.callbacks.secrets import WebhookSecrets
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.errors import InvalidInput
from quart_async_api.moments import ServiceClock, timestamp
from tests.secrets import secret

from .conftest import until


class Process:
    """What one process has of all this."""

    def __init__(self, url: str, clock: ServiceClock) -> None:
        self.database = Database(url)
        self.commits = GroupCommit(self.database)
        self.store = KeyStore(self.database, self.commits, clock=clock)
        self.ring = KeyRing(self.store, clock=clock)
        self.tokens = AccessTokens(self.database, self.commits, clock=clock)
        self.secrets = WebhookSecrets(self.database, self.commits, 60, clock=clock)
        self.reads = 0
        self.database.read = self._counted(self.database.read)  # type: ignore[method-assign]
        self.database.rows = self._counted(self.database.rows)  # type: ignore[method-assign]

    def _counted(self, read: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def counted(sql: str, *values: object) -> object:
            self.reads += 1
            return await read(sql, *values)

        return counted

    async def create(self, name: str | None = None, *scopes: Scope, lifetime: float | None = None) -> str:
        return secret((await self.store.create(name, scopes, lifetime))[1])


@pytest.fixture
def clock() -> ServiceClock:
    return ServiceClock()


@pytest.fixture
async def new(backend: str, clock: ServiceClock) -> AsyncIterator[Callable[[], Process]]:
    async with AsyncExitStack() as stack:
        made: list[Process] = []

        def new() -> Process:
            process = Process(backend, clock)
            made.append(process)
            stack.push_async_callback(process.database.stop)
            stack.push_async_callback(process.commits.close)
            return process

        yield new


@pytest.fixture
async def one(new: Callable[[], Process]) -> Process:
    process = new()
    await process.database.start()
    return process


@pytest.fixture
async def other(new: Callable[[], Process]) -> Process:
    process = new()
    await process.database.start()
    return process


async def opens(process: Process, text: str) -> bool:
    return process.ring.caller(await process.ring.keys(), text) is not None


async def test_what_one_process_does_to_keys_the_next_request_of_another_sees(one: Process, other: Process) -> None:
    assert await other.ring.keys() == {}
    key = await one.create("k")
    assert await opens(other, key)
    for number in range(20):
        name = f"key {number}"
        made = await one.create(name)
        assert await opens(other, made)
        await one.store.revoke(name)
        assert not await opens(other, made)
        assert await opens(other, key)


async def test_requests_in_flight_together_share_a_hop_and_none_sees_the_past(
    one: Process, other: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quart_async_api.db.postgresql_reader.QUICK_SECONDS", 60)  # a busy machine would read again
    await other.ring.keys()
    await one.create("first")
    hops, other.reads = other.database.hops, 0
    await asyncio.gather(*(other.ring.keys() for _ in range(100)))
    assert (other.database.hops - hops, other.reads) == (2, 101)  # each the version, one of them the keys
    hops, other.reads = other.database.hops, 0
    await asyncio.gather(*(other.ring.keys() for _ in range(100)))
    assert (other.database.hops - hops, other.reads) == (1, 100)

    async def ask_again_and_again() -> None:
        while not stop.is_set():
            await other.ring.keys()

    stop = asyncio.Event()
    busy = [asyncio.create_task(ask_again_and_again()) for _ in range(10)]
    for number in range(30):
        key = await one.create(f"n{number}")
        assert await opens(other, key)
        await one.store.revoke(f"n{number}")
        assert not await opens(other, key)
    stop.set()
    await asyncio.gather(*busy)


async def test_a_caller_that_is_cancelled_takes_nobody_elses_read_with_it(one: Process) -> None:
    key = await one.create()
    first = asyncio.create_task(one.ring.keys())
    second = asyncio.create_task(opens(one, key))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


async def test_keys_made_at_once_each_raise_the_version(one: Process, other: Process) -> None:
    await asyncio.gather(*(process.create() for process in (one, other) for _ in range(20)))
    assert await one.store.version() == 40
    rows = await one.database.read("SELECT version FROM api_keys")
    assert {row["version"] for row in rows} == set(range(1, 41))


async def test_a_name_is_given_once(one: Process, other: Process) -> None:
    outcomes = await asyncio.gather(
        *(process.store.create("same") for process in (one, other) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(outcome, InvalidInput) for outcome in outcomes) == 9
    await one.store.revoke("same")
    with pytest.raises(InvalidInput, match="use another name"):
        await one.store.create("same")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "0123456789ab", "\0"])
async def test_what_is_no_name_is_refused(one: Process, name: str) -> None:
    with pytest.raises(InvalidInput):
        await one.store.create(name)


async def test_a_key_ends_when_its_time_is_over(one: Process, clock: ServiceClock) -> None:
    key = await one.create("brief", lifetime=60)
    assert await opens(one, key)
    clock.ahead += datetime(2026, 1, 1, 0, 1, 1, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC)
    assert not await opens(one, key)
    assert await one.ring.keys() != {}


async def test_who_is_an_admin_sees_all_and_may_all(one: Process) -> None:
    key = await one.create("root", Scope.ADMIN)
    caller = one.ring.caller(await one.ring.keys(), key)
    assert caller is not None
    assert caller.sees is None
    assert all(caller.may(scope) for scope in Scope)
    key = await one.create("other")
    other = one.ring.caller(await one.ring.keys(), key)
    assert other is not None
    assert other.sees == other.key_id
    assert not other.may(Scope.ADMIN)


async def test_the_last_use_is_written_at_most_once_a_minute(one: Process, other: Process) -> None:
    key = await one.create("k")
    version = await one.store.version()
    for process in (one, other):
        process.ring.start(BackgroundTasks())
    commits = other.commits.commits
    for _ in range(50):
        assert await opens(other, key)

    async def used() -> bool:
        return (await one.store.find("k")).last_used_at is not None

    await until(used)
    await until(lambda: other.commits.commits > commits)  # it counts when its thread has told it of the commit
    first = (await one.store.find("k")).last_used_at
    assert other.commits.commits == commits + 1
    assert await opens(one, key)
    await until(lambda: one.commits.commits >= 2)
    assert (await one.store.find("k")).last_used_at == first
    assert await one.store.version() == version


async def test_a_ticket_is_good_once_however_many_ask(one: Process, other: Process) -> None:
    ticket, _ = await one.tokens.issue(Kind.TICKET, "k", 30)
    secret(ticket)
    taken = await asyncio.gather(*(process.tokens.take_ticket(ticket) for process in (one, other) for _ in range(10)))
    assert [each for each in taken if each is not None] == [("k", None)]


async def test_revoking_ends_sessions_and_forgetting_leaves_what_is_good(one: Process, clock: ServiceClock) -> None:
    key_id = id_of(await one.create("k"))
    assert key_id is not None
    session, _ = await one.tokens.issue(Kind.SESSION, key_id, 60)
    kept, _ = await one.tokens.issue(Kind.SESSION, "other", 60)
    found = await one.tokens.session([session])
    assert found is not None
    assert found.key_id == key_id
    assert await one.tokens.take_ticket(session) is None
    await one.store.revoke(key_id)
    assert await one.tokens.session([session]) is None
    await one.tokens.forget(timestamp(clock()))
    assert await one.tokens.session([kept]) is not None


async def test_a_key_that_signs_in_again_and_again_filled_the_table_with_sessions(
    one: Process, clock: ServiceClock
) -> None:
    key_id, other = id_of(await one.create("k")), id_of(await one.create("other"))
    assert key_id is not None
    assert other is not None
    theirs, _ = await one.tokens.issue(Kind.SESSION, other, 60)
    first, _ = await one.tokens.issue(Kind.SESSION, key_id, 60)
    before = await one.store.version()
    issued = await asyncio.gather(*(one.tokens.issue(Kind.SESSION, key_id, 61) for _ in range(SESSIONS_PER_KEY)))
    assert await one.tokens.session([first]) is None
    assert await one.store.version() != before  # which ends what it has open
    assert all([await one.tokens.session([token]) for token, _ in issued])
    assert await one.tokens.session([theirs]) is not None


async def test_while_a_secret_is_rotated_both_sign(one: Process, clock: ServiceClock) -> None:
    await one.secrets.create()
    await one.secrets.create()
    [first] = await one.secrets.valid_for()
    secret(first.secret)
    await one.secrets.rotate()
    new, old = await one.secrets.valid_for()
    assert old.secret == first.secret
    assert old.expires_at is not None
    assert secret(new.secret) != first.secret
    clock.ahead += datetime(2026, 1, 1, 0, 1, 1, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC)
    assert [each.secret for each in await one.secrets.valid_for()] == [new.secret]


async def test_a_key_comes_with_a_webhook_secret_of_its_own(one: Process) -> None:
    key_id = id_of(await one.create("k"))
    assert key_id is not None
    [own] = await one.secrets.valid_for(key_id)
    assert own.secret.startswith("whsec_")
    assert await one.secrets.valid_for() == []
