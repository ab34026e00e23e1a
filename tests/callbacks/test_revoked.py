"""The callbacks of a revoked key are not sent, and those of an expired one are."""

import asyncio
from datetime import timedelta

import pytest

from quart_async_api.access.caller import Caller
from quart_async_api.access.keys import Key, KeyStore
from quart_async_api.callbacks.deliveries import REVOKED
from tests.engine import sample_tasks
from tests.engine.conftest import until

from .conftest import Make, Service, on_sqlite
from .receiver import OK, Receiver, answering, when


async def made(service: Service, lifetime: float | None = None) -> tuple[KeyStore, Key]:
    keys = KeyStore(service.database, service.commits, clock=service.clock)
    key, _ = await keys.create("reports", lifetime=lifetime)
    return keys, key


async def test_what_a_revoked_key_has_left_ends_as_failed_and_is_not_sent(make: Make, receiver: Receiver) -> None:
    service = await make()
    keys, key = await made(service)
    receiver.otherwise = answering(500)
    waiting, another = await service.ended(receiver.url, key.id), await service.ended(f"{receiver.origin}/b", "other")
    await service.attempts(waiting, 1)
    await service.attempts(another, 1)
    await service.let_go()
    await keys.revoke(key.id)
    late = await service.ended(receiver.url, key.id)
    for callback in await service.settled(waiting, late):
        assert callback["status"] == "failed"
        assert callback["attempts"][-1]["error"] == REVOKED
    [callback] = await service.callbacks_of(another)
    assert callback["status"] == "pending"
    assert len(receiver.sent) == 2


@on_sqlite
async def test_a_key_that_is_revoked_while_its_callbacks_are_sent_gets_no_other_out(
    make: Make, receiver: Receiver
) -> None:
    service = await make(sender=False)
    keys, key = await made(service)
    jobs = [await service.ended(receiver.url, key.id) for _ in range(3)]
    gate = asyncio.Event()
    receiver.otherwise = when(gate)
    await service.start_sender()
    await receiver.got(1)
    await keys.revoke(key.id)
    gate.set()
    assert [callback["status"] for callback in await service.settled(*jobs)] == ["delivered", "failed", "failed"]
    assert len(receiver.sent) == 1


@on_sqlite
async def test_a_job_that_ends_after_its_key_was_revoked_calls_nobody(make: Make, receiver: Receiver) -> None:
    service = await make(engine=True)
    keys, key = await made(service)
    task = service.submissions.task("hold")
    arguments = service.submissions.arguments(task, {})
    options = service.called_back(receiver.url)
    job = await service.submissions.submit(task, arguments, options, caller=Caller(key.id))
    await until(lambda: job.id in sample_tasks.running)
    await keys.revoke(key.id)
    sample_tasks.gate("gate").set()
    await service.wait(job)
    [callback] = await service.settled(job)
    assert [attempt["error"] for attempt in callback["attempts"]] == [REVOKED]
    assert receiver.sent == []


@on_sqlite
async def test_a_replay_sends_the_callback_of_a_revoked_key_until_it_is_delivered(
    make: Make, receiver: Receiver
) -> None:
    service = await make(callback_schedule=(0, 5))
    keys, key = await made(service)
    await keys.revoke(key.id)
    job, other = await service.ended(receiver.url, key.id), await service.ended(receiver.url, key.id)
    [callback, _] = await service.settled(job, other)
    receiver.script = [answering(500)]
    await service.deliveries.replay(job.id, callback["id"], service.now())
    await receiver.got(1)
    await service.let_go()
    service.pass_time(6)
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"
    assert receiver.jobs == [job.id, job.id]


@on_sqlite
async def test_by_a_setting_the_callbacks_of_a_revoked_key_are_sent(make: Make, receiver: Receiver) -> None:
    service = await make(callback_after_revoke=True)
    keys, key = await made(service)
    receiver.script = [answering(500), OK]
    waiting = await service.ended(receiver.url, key.id)
    await service.attempts(waiting, 1)
    await keys.revoke(key.id)
    service.pass_time(6)
    late = await service.ended(receiver.url, key.id)
    assert {callback["status"] for callback in await service.settled(waiting, late)} == {"delivered"}


@on_sqlite
@pytest.mark.parametrize("when_expired", ["before its job ends", "before the retry"])
async def test_the_callbacks_of_an_expired_key_are_sent(make: Make, receiver: Receiver, when_expired: str) -> None:
    service = await make()
    _, key = await made(service, lifetime=3)
    if when_expired == "before the retry":
        receiver.script = [answering(500)]
        job = await service.ended(receiver.url, key.id)
        await service.attempts(job, 1)
        service.pass_time(6)
    else:
        service.clock.ahead += timedelta(seconds=6)
        job = await service.ended(receiver.url, key.id)
    assert not key.is_valid(service.now())
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"
