"""Clocks that jump: schedules, tickets, sessions, keys, retries, idempotency keys and quotas."""

from datetime import UTC, datetime, timedelta

import pytest

from quart_async_api.access.caller import Caller
from quart_async_api.access.key_ring import KeyRing
from quart_async_api.access.keys import KeyStore
from quart_async_api.access.tokens import AccessTokens, Kind
from quart_async_api.errors import QuotaExceeded
from quart_async_api.jobs.scheduler import Scheduler
from quart_async_api.moments import ServiceClock, timestamp
from quart_async_api.services.idempotency import Idempotency, Key, Reply, remember

from .conftest import Make, Service

HOUR = timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)  # of a clock that stands still, so that no minute turns in a test
pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
async def service(make: Make) -> Service:
    return await make(engine=False)


async def test_a_schedule_is_not_silent_for_an_hour_after_a_clock_that_was_an_hour_ahead(service: Service) -> None:
    clock = ServiceClock(NOON)
    scheduler = Scheduler(service.store, service.tasks, clock=clock)
    for jump in (HOUR, -HOUR, HOUR):  # the clock is ahead, then right, and then that hour comes
        clock.ahead += jump
        for _ in range(3):
            assert len(await scheduler.fire()) == 1
            assert await scheduler.fire() == []
            clock.ahead += timedelta(minutes=1)
        clock.ahead -= timedelta(minutes=3)


async def test_a_schedule_fires_no_minute_twice_when_the_clock_is_corrected_by_seconds(service: Service) -> None:
    clock = ServiceClock(NOON)
    scheduler = Scheduler(service.store, service.tasks, clock=clock)
    assert len(await scheduler.fire()) == 1
    clock.ahead -= timedelta(seconds=20)  # into the minute before
    await scheduler.fire()
    clock.ahead += timedelta(seconds=20)
    assert await scheduler.fire() == []


async def test_a_ticket_of_a_clock_that_was_ahead_does_not_live_for_an_hour(service: Service) -> None:
    clock = ServiceClock(NOON)
    tokens = AccessTokens(service.database, service.commits, clock=clock)
    clock.ahead += HOUR
    ticket, _ = await tokens.issue(Kind.TICKET, "key", 30)
    clock.ahead -= HOUR
    assert await tokens.take_ticket(ticket) is None
    ticket, _ = await tokens.issue(Kind.TICKET, "key", 30)
    clock.ahead -= timedelta(seconds=30)
    assert await tokens.take_ticket(ticket) == ("key", None)


async def test_a_key_and_a_session_are_good_again_when_a_clock_that_was_ahead_is_right(service: Service) -> None:
    clock = ServiceClock(NOON)
    keys = KeyStore(service.database, service.commits, clock=clock)
    ring = KeyRing(keys, clock=clock)
    tokens = AccessTokens(service.database, service.commits, clock=clock)
    key, text = await keys.create("brief", lifetime=600)
    session, _ = await tokens.issue(Kind.SESSION, key.id, 600)
    for hours, is_good in ((1, False), (-1, True)):
        clock.ahead += hours * HOUR
        assert (ring.caller(await ring.keys(), text) is not None) == is_good
        assert (await tokens.session([session]) is not None) == is_good


async def test_the_last_use_of_a_key_is_kept_again_after_a_clock_that_was_ahead(service: Service) -> None:
    clock = ServiceClock(NOON)
    keys = KeyStore(service.database, service.commits, clock=clock)
    key, _ = await keys.create("used")
    for moment in (clock() + HOUR, clock()):
        await keys.used(key.id, timestamp(moment), 60)
    assert (await keys.find(key.id)).last_used_at == timestamp(clock())


async def test_an_idempotency_key_keeps_its_answer_over_jumps_of_the_clock(service: Service) -> None:
    clock = ServiceClock(NOON)
    replies = Idempotency(service.database, clock=clock)
    key = Key("digest", "fingerprint", 86_400, "")

    async def answered(status: int) -> bool:
        return await service.commits.run(lambda: remember(key, Reply(status, {}, "", None), timestamp(clock())))

    clock.ahead += HOUR
    assert await answered(200)
    for hours in (-1, -2, 4):
        clock.ahead += hours * HOUR
        assert not await answered(201)
        reply = await replies.reply(key)
        assert reply is not None
        assert reply.status == 200


async def test_jobs_of_a_key_count_against_its_quota_whatever_the_clock_says(make: Make) -> None:
    service = await make(engine=False, job_quota=2)
    task = service.submissions.task("double")
    arguments = service.submissions.arguments(task, {"number": 1})
    for hours in (1, -1):
        service.clock.ahead = hours * HOUR
        await service.submissions.submit(task, arguments, caller=Caller("key"))
    service.clock.ahead = timedelta(0)
    with pytest.raises(QuotaExceeded):
        await service.submissions.submit(task, arguments, caller=Caller("key"))


async def test_a_retry_that_was_given_back_does_not_wait_for_a_clock_that_was_ahead(service: Service) -> None:
    ahead, back = "2026-01-01T13:00:00.000000Z", "2026-01-01T12:00:00.000000Z"
    await service.store.workers.register("worker", back)

    async def claimed(now: str) -> list[str]:
        return [
            job.run_token or ""
            for job in await service.store.claims.claim(["hold"], 1, "worker", now, lambda: f"of {now}")
        ]

    job = await service.submit("hold")
    await service.store.claims.claim(["hold"], 1, "worker", job.created_at, lambda: "first")
    await service.store.transitions.retry(job.id, "first", ahead, ahead, '{"status": 500}', 60)
    (token,) = await claimed(ahead)
    assert await service.store.transitions.give_back(job.id, token, back, 60)
    assert await claimed(back)
