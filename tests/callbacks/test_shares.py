"""The callbacks of one key delay no other key's: slots, name look-ups, origins that keys share, and what a claim costs."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_async_api.callbacks import names
from quart_async_api.callbacks import sender as sender_module
from quart_async_api.callbacks.names import Names, asking
from quart_async_api.callbacks.sender import BREAKER_FAILURES
from quart_async_api.callbacks.shares import Shares
from quart_async_api.moments import later
from tests.engine.conftest import until
from tests.statements import counted

from .conftest import Make, Service, on_sqlite
from .receiver import Receiver, answering, hang, when

SLOTS = 4
BATCH = 3


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "BATCH", BATCH)


def taken(shares: Shares, wanting: list[str]) -> list[str]:
    """Who takes a slot, in turn, until nobody may."""
    owners = []
    while (owner := shares.next(wanting)) is not None:
        shares.take(owner)
        owners.append(owner)
    return owners


def test_an_owner_alone_leaves_half_of_the_slots() -> None:
    for slots, half in ((1, 1), (2, 1), (3, 2), (100, 50)):
        assert taken(Shares(slots), ["a"]) == ["a"] * half


def test_a_newcomer_takes_a_slot_at_once_and_the_others_shrink_to_the_same_share() -> None:
    shares = Shares(100)
    held = taken(shares, ["a"])
    held += taken(shares, ["a", "b"])
    assert held.count("b") == 25
    for _ in range(1000):  # slots come back and are taken again
        shares.give_back(held.pop(0))
        held += taken(shares, ["a", "b", "c"])
    assert {owner: held.count(owner) for owner in "abc"} == {"a": 25, "b": 25, "c": 25}


def test_owners_take_turns_for_one_slot() -> None:
    shares = Shares(1)
    turns = []
    for _ in range(6):
        turns += taken(shares, ["c", "a", "b"])
        shares.give_back(turns[-1])
    assert turns == ["c", "a", "b"] * 2


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans())), st.integers(1, 20))
def test_no_owner_ever_takes_a_slot_while_it_holds_as_many_as_are_free(
    steps: list[tuple[str, bool]], slots: int
) -> None:
    shares, held = Shares(slots), list[str]()
    for owner, takes in steps:
        if takes and shares.next([owner]) is not None:
            assert held.count(owner) < slots - len(held)
            shares.take(owner)
            held.append(owner)
        elif not takes and owner in held:
            shares.give_back(owner)
            held.remove(owner)
        assert shares.free == slots - len(held) >= 0


# Slots


@pytest.fixture
async def dead() -> AsyncIterator[list[Receiver]]:
    """Twice as many as there are slots, at origins of their own, that never answer."""
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(Receiver()) for _ in range(2 * SLOTS)]
        for receiver in receivers:
            receiver.otherwise = hang
        yield receivers


async def test_targets_of_one_key_that_never_answer_leave_a_slot_for_every_other_key(
    make: Make, receiver: Receiver, dead: list[Receiver]
) -> None:
    service = await make(sender=False, callback_concurrency=SLOTS, callback_timeout=600)
    for target in dead:
        await service.ended(target.url, "slow")
    await service.start_sender()
    await until(lambda: sum(len(target.sent) for target in dead) == SLOTS // 2)
    for stranger in ("one", "two", None):
        [callback] = await service.settled(await service.ended(receiver.url, stranger))
        assert callback["status"] == "delivered"
    assert sum(len(target.sent) for target in dead) == SLOTS // 2


@on_sqlite
async def test_a_key_that_has_all_of_its_slots_lets_its_own_origins_take_turns(
    make: Make, dead: list[Receiver]
) -> None:
    service = await make(sender=False, callback_concurrency=2)
    for target in dead:
        target.otherwise = answering(200)
    jobs = [await service.ended(target.url, "busy") for _ in range(BATCH + 5) for target in dead[:2]]
    await service.start_sender()
    await service.settled(*jobs)
    assert dead[0].sent[0].began < dead[1].sent[-1].began
    assert dead[1].sent[0].began < dead[0].sent[-1].began


# Origins that several keys call


@on_sqlite
@pytest.mark.parametrize(("turn", "at_most"), [(3600.0, BATCH), (0.0, 1)], ids=["quick", "slow"])
async def test_the_backlog_of_one_key_at_an_origin_does_not_delay_another_key_there(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, turn: float, at_most: int
) -> None:
    monkeypatch.setattr(sender_module, "TURN_SECONDS", turn)
    service = await make(sender=False)
    backlog = [await service.ended(receiver.url, "busy") for _ in range(BATCH + 5)]
    stranger = await service.ended(receiver.url, "stranger")
    await service.start_sender()
    await service.settled(*backlog, stranger)
    assert receiver.jobs.index(stranger.id) <= at_most
    assert [job for job in receiver.jobs if job != stranger.id] == [job.id for job in backlog]
    assert receiver.most_at_once == 1


@on_sqlite
async def test_a_key_with_few_slots_gets_its_turn_at_an_origin_that_one_with_fewer_keeps_busy(
    make: Make, receiver: Receiver, dead: list[Receiver]
) -> None:
    service = await make(sender=False, callback_concurrency=2 * SLOTS, callback_timeout=600)
    for target in dead[:2]:
        await service.ended(target.url, "stranger")
    await service.start_sender()
    await until(lambda: sum(len(target.sent) for target in dead) == 2)
    gate = asyncio.Event()
    receiver.script = [when(gate)]
    backlog = [await service.ended(receiver.url, "busy") for _ in range(BATCH + 5)]
    await receiver.got(1)
    stranger = await service.ended(receiver.url, "stranger")
    gate.set()
    await service.settled(*backlog, stranger)
    assert receiver.jobs.index(stranger.id) <= BATCH


async def test_a_key_whose_receiver_fails_does_not_close_the_origin_for_another(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False)
    receiver.paths = {"/failing": answering(503), "/throttled": answering(429, retry_after="80000")}
    for _ in range(BREAKER_FAILURES):
        await service.ended(f"{receiver.origin}/failing", "one")
    await service.ended(f"{receiver.origin}/throttled", "two")
    await service.start_sender()
    await receiver.got(BREAKER_FAILURES + 1)
    await service.let_go()
    [callback] = await service.settled(await service.ended(receiver.url, "stranger"))
    assert callback["status"] == "delivered"


# What a claim costs


async def steps_of_a_claim(service: Service) -> int:
    """How many instructions SQLite executes for one."""
    await service.write(("INSERT INTO workers (id, beat, started_at) VALUES (?, 0, '')", (service.presence.id,)))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await counted(service.database, count)
    claimed = await service.queues.claim(service.presence.id, service.now(), Shares(1))
    assert len(claimed) == 1
    return steps


BACKLOGS: dict[str, Callable[[Service], dict[str, object]]] = {
    "due": lambda service: {},
    "due, and failing": lambda service: {"failing": 1, "failures": 3},
    "waiting": lambda service: {"next_at": later(service.now(), 1000)},
    "waiting, and failing": lambda service: {"next_at": later(service.now(), 1000), "failing": 1, "failures": 3},
}


@on_sqlite
@pytest.mark.parametrize("backlog", BACKLOGS)
async def test_a_claim_costs_the_same_however_many_origins_a_key_waits_for(make: Make, backlog: str) -> None:
    costs = []
    for origins in (10, 2000):
        service = await make(sender=False)
        waiting = {"next_at": "", "failing": 0, "failures": 0, **BACKLOGS[backlog](service)}
        insert = (
            "INSERT INTO callback_queues (owner, origin, set_at, next_at, failing, failures) VALUES (?, ?, '', ?, ?, ?)"
        )
        await service.write(("DELETE FROM callback_queues", ()), ("DELETE FROM workers", ()))
        await service.write(
            (insert, ("stranger", "https://stranger:443", "", 0, 0)),
            *((insert, ("busy", f"https://{number}:443", *waiting.values())) for number in range(origins)),
        )
        costs.append(await steps_of_a_claim(service))
    assert costs[1] < 1.5 * costs[0]


# Look-ups of names


class Stuck:
    """A name server that answers for `localhost` alone, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._answered = threading.Event()
        self._ask = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._slow)
        self.let_go = self._answered.set

    def _slow(self, host: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(host)
        if host != "localhost":
            self._answered.wait()
        return self._ask("localhost", *args, **kwargs)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(names, "THREADS", 10)
    made = Stuck(monkeypatch)
    yield made
    made.let_go()


async def test_names_of_one_key_that_never_resolve_leave_a_thread_for_every_other_key(stuck: Stuck) -> None:
    found = Names()
    asking.set("slow")
    hanging = [asyncio.create_task(found.resolve(f"{number}.example", 80)) for number in range(100)]
    await until(lambda: len(stuck.asked) == 5)
    for stranger in ("one", "two", ""):
        asking.set(stranger)
        assert await found.resolve("localhost", 80)
    assert len(stuck.asked) == 5 + 3
    for task in hanging[:50]:
        task.cancel()
    stuck.let_go()
    results = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:50])
    assert all(isinstance(result, list) for result in results[50:])
    await until(lambda: found._shares.free == 10)
    assert found._waiting == {}


async def test_callbacks_to_names_that_never_resolve_delay_no_other_keys_name(
    make: Make, receiver: Receiver, stuck: Stuck
) -> None:
    service = await make(callback_timeout=2, callback_schedule=(0,))
    slow = [await service.ended(f"http://{number}.example/", "slow") for number in range(20)]
    assert {callback["status"] for callback in await service.settled(*slow)} == {"failed"}
    assert len(stuck.asked) == 5  # the threads are still busy
    [callback] = await service.settled(await service.ended(f"http://localhost:{receiver.port}/", "stranger"))
    assert callback["status"] == "delivered"
