"""A clock that was ahead, and is right again, holds no callback back."""

import asyncio

import pytest

from quart_async_api.callbacks import sender as sender_module
from quart_async_api.callbacks.sender import BREAKER_FAILURES

from .conftest import Make
from .receiver import OK, Receiver, answering, when

BATCH = 3
AHEAD = 1800.0  # less than a sender is patient with a queue that stays closed


@pytest.fixture(autouse=True)
def _sweeps_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "ORPHANS_SECONDS", 0.05)


@pytest.mark.slow
async def test_neither_a_breaker_nor_a_retry_waits_for_a_clock_that_was_ahead(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False)
    receiver.otherwise = answering(500)
    jobs = [await service.ended(receiver.url) for _ in range(BREAKER_FAILURES + 1)]
    service.pass_time(AHEAD)
    await service.start_sender()
    await receiver.got(BREAKER_FAILURES)
    await service.let_go()
    receiver.otherwise = OK
    service.pass_time(-AHEAD)
    jobs.append(await service.ended(receiver.url))
    assert {callback["status"] for callback in await service.settled(*jobs)} == {"delivered"}


async def test_a_retry_after_of_a_clock_that_was_ahead_is_not_waited_for(make: Make, receiver: Receiver) -> None:
    service = await make()
    receiver.script = [answering(429, retry_after="1000")]
    service.pass_time(AHEAD)
    job = await service.ended(receiver.url)
    await service.attempts(job, 1)
    await service.let_go()
    service.pass_time(-AHEAD)
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"


async def test_a_queue_that_had_its_turn_by_a_clock_that_was_ahead_gets_another(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "BATCH", BATCH)
    service = await make(sender=False, callback_concurrency=1)
    service.pass_time(AHEAD)
    jobs = [await service.ended(receiver.url) for _ in range(2 * BATCH)]
    gate = asyncio.Event()
    receiver.script = [OK] * BATCH + [when(gate)]
    await service.start_sender()
    await receiver.got(BATCH + 1)
    service.pass_time(-AHEAD)
    gate.set()
    await service.settled(*jobs)


async def test_a_first_try_that_waits_by_the_schedule_does_not_wait_for_a_clock_that_was_ahead(
    make: Make, receiver: Receiver
) -> None:
    service = await make(callback_schedule=(30, 60))
    await service.ended(receiver.url)
    service.pass_time(AHEAD)
    await receiver.got(1)
    late = await service.ended(receiver.url)
    service.pass_time(-AHEAD)
    await service.settled(late)


async def test_a_replay_by_a_clock_that_was_ahead_is_sent(make: Make, receiver: Receiver) -> None:
    service = await make()
    job = await service.ended(receiver.url)
    [callback] = await service.settled(job)
    await service.let_go()
    await service.sender.stop()
    service.pass_time(AHEAD)
    await service.deliveries.replay(job.id, callback["id"], service.now())
    service.pass_time(-AHEAD)
    other = await make()
    await other.settled(job)
    assert len(receiver.sent) == 2


async def test_a_clock_that_differs_by_seconds_shortens_no_wait(make: Make, receiver: Receiver) -> None:
    service = await make(callback_schedule=(0, 50))
    receiver.script = [answering(503, retry_after="50")]
    service.pass_time(20)
    job = await service.ended(receiver.url)
    await service.attempts(job, 1)
    await service.let_go()
    service.pass_time(-20)
    assert not await service.queues.free_from_the_future(service.now())
    assert not await service.queues.is_due(service.now())
    assert len(receiver.sent) == 1
