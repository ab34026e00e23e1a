"""What is open ends with its key or session, on each backend, whichever process ended that, at hardly any cost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from quart_async_api.access.admissions import Admission, Admissions
from quart_async_api.access.caller import Caller
from quart_async_api.access.keys import digest, id_of
from quart_async_api.access.tokens import Kind
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.moments import ServiceClock
from tests.secrets import secret

from .test_keys import Process, clock, new, one, other

__all__ = ["clock", "new", "one", "other"]  # the fixtures


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def admissions(one: Process, clock: ServiceClock) -> Admissions:
    return Admissions(one.ring, one.tokens, clock=clock)


Hold = Callable[..., Admission]


@pytest.fixture
def hold(admissions: Admissions, stack: ExitStack) -> Hold:
    """Opens something by a key, or by a session."""

    def hold(key_id: str | None, token: str | None = None) -> Admission:
        admission = Admission(Caller(key_id), None if token is None else digest(token))
        stack.enter_context(admissions.holding(admission))
        return admission

    return hold


async def key(process: Process, name: str, lifetime: float | None = None) -> str:
    return id_of(await process.create(name, lifetime=lifetime)) or ""


async def session(process: Process, key_id: str, seconds: float = 600) -> str:
    return secret((await process.tokens.issue(Kind.SESSION, key_id, seconds))[0])


async def test_what_another_process_ends_ends_here_and_nothing_else_does(
    one: Process, other: Process, admissions: Admissions, hold: Hold
) -> None:
    first, second = await key(one, "first"), await key(one, "second")
    tokens = [await session(one, first) for _ in range(2)]
    by_first, by_second = hold(first), hold(second)
    by_sessions = [hold(first, token) for token in tokens]

    def ended() -> list[bool]:
        return [each.has_ended for each in (by_first, by_second, *by_sessions)]

    await admissions.loop.work()
    assert ended() == [False] * 4
    await other.tokens.end([tokens[0]])
    await admissions.loop.work()
    assert ended() == [False, False, True, False]
    await other.store.revoke("first")
    await admissions.loop.work()
    assert ended() == [True, False, True, True]


async def test_a_key_that_ends_while_a_stream_is_opened_by_it_ends_the_stream(
    one: Process, other: Process, admissions: Admissions, hold: Hold
) -> None:
    await key(one, "kept")
    key_id = await key(one, "gone")
    token = await session(one, key_id)
    hold(key_id)
    await other.store.revoke("gone")
    await admissions.loop.work()  # it has been noticed before these are opened
    late = [hold(key_id), hold(key_id, token)]
    await admissions.loop.work()
    assert all(each.has_ended for each in late)


async def test_each_ends_at_its_own_time(one: Process, clock: ServiceClock, admissions: Admissions, hold: Hold) -> None:
    lasting, brief = await key(one, "lasting"), await key(one, "brief", lifetime=200)
    opened = [
        hold(lasting, await session(one, lasting, 100)),
        hold(brief),
        hold(brief, await session(one, brief, 300)),
        hold(lasting, await session(one, lasting, 400)),
        hold(lasting),
    ]
    for passed, left in ((99, 5), (2, 4), (98, 4), (3, 2), (197, 2), (2, 1), (10**8, 1)):
        clock.ahead += timedelta(seconds=passed)
        await admissions.loop.work()
        assert [each.has_ended for each in opened].count(False) == left, clock.ahead


async def test_a_quiet_round_costs_one_read_however_much_is_open(
    one: Process, admissions: Admissions, hold: Hold, stack: ExitStack
) -> None:
    key_id = await key(one, "k")
    for _ in range(50):
        token = await session(one, key_id)
        for _ in range(20):
            hold(key_id, token)
    one.reads = 0
    await admissions.loop.work()
    assert one.reads <= 3  # the version, the keys, all sessions
    one.reads = 0
    for _ in range(10):
        await admissions.loop.work()
    assert one.reads == 10
    stack.close()
    await admissions.loop.work()
    assert (one.reads, admissions._open, admissions._new) == (10, {}, set())


async def test_while_the_database_is_away_what_is_open_goes_on_and_is_looked_at_afterwards(
    one: Process, other: Process, admissions: Admissions, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = hold(await key(one, "k"))
    await other.store.revoke("k")
    with monkeypatch.context() as patched:

        async def away() -> None:
            raise DatabaseUnavailable("it is away")

        patched.setattr(one.store, "version", away)
        with pytest.raises(DatabaseUnavailable):
            await admissions.loop.work()
    assert not opened.has_ended
    await admissions.loop.work()
    assert opened.has_ended
