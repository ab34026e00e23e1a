"""Limits that several processes reach at once are exact."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from quart_async_api.access import tokens
from quart_async_api.access.caller import Caller
from quart_async_api.errors import KeyTaken, QueueFull, QuotaExceeded
from quart_async_api.services import idempotency
from quart_async_api.services.idempotency import JobReply, Key, Reply
from quart_async_api.services.submissions import Options

from ..conftest import Make, Service
from .conftest import fleet_of, refusals

pytestmark = pytest.mark.process


@pytest.mark.parametrize("limit", [25, 1500])
async def test_the_queue_takes_no_job_too_many_however_many_processes_submit(make: Make, limit: int) -> None:
    fleet = await fleet_of(make, job_queue_limit=limit)
    done = await refusals([service.submit("double", number=1) for service in fleet * (limit // 3 + 20)])
    assert done == {"done": limit, QueueFull.__name__: 60 - limit % 3}
    [[queued]] = await fleet[0].database.rows("SELECT COUNT(*) FROM jobs")
    assert queued == limit


async def test_a_key_gets_no_job_too_many_however_many_processes_submit(make: Make) -> None:
    fleet = await fleet_of(make, job_quota=20)

    def submit(service: Service, owner: str) -> Coroutine[Any, Any, object]:
        task = service.submissions.task("double")
        arguments = service.submissions.arguments(task, {"number": 1})
        return service.submissions.submit(task, arguments, Options(), caller=Caller(owner))

    done = await refusals([submit(service, owner) for service in fleet * 10 for owner in ("one", "other")])
    assert done == {"done": 40, QuotaExceeded.__name__: 20}
    used = await fleet[0].database.rows("SELECT owner, unfinished, jobs FROM job_usage ORDER BY owner")
    assert used == [("one", 20, 20), ("other", 20, 20)]


async def test_no_user_too_many_is_added_however_many_processes_add_them(make: Make) -> None:
    fleet = await fleet_of(make)
    calls = [fleet[number % 3].users.create("a", f"{number}@example.org", most=25) for number in range(60)]
    assert await refusals(calls) == {"done": 25, QuotaExceeded.__name__: 35}
    assert await fleet[0].database.rows("SELECT COUNT(*) FROM users") == [(25,)]


async def test_an_idempotency_key_starts_one_job_however_many_processes_get_it(make: Make) -> None:
    fleet = await fleet_of(make)

    def submit(service: Service, number: int) -> Coroutine[Any, Any, object]:
        key = Key(f"digest {number}", "fingerprint", 60, "")
        task = service.submissions.task("double")
        arguments = service.submissions.arguments(task, {"number": number})
        reply = JobReply(key, lambda job: Reply(202, {}, "", job.id))
        return service.submissions.submit(task, arguments, Options(), key=reply)

    done = await refusals([submit(service, number) for number in range(10) for service in fleet])
    assert done == {"done": 10, KeyTaken.__name__: 20}
    rows = await fleet[0].database.rows(
        "SELECT k.job_id, j.id FROM idempotency_keys k LEFT JOIN jobs j ON j.id = k.job_id"
    )
    assert len(rows) == 10
    assert all(job is not None for _, job in rows)
    kept = await idempotency.Idempotency(fleet[1].database).reply(Key("digest 3", "fingerprint", 60, ""))
    assert kept is not None


async def test_a_key_has_no_session_too_many_however_many_processes_sign_it_in(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SESSIONS_PER_KEY", 3)
    fleet = await fleet_of(make)
    for _ in range(10):
        await asyncio.gather(*(each.access_tokens.issue(tokens.Kind.SESSION, "a key", 60) for each in fleet))
        assert await fleet[0].database.rows("SELECT COUNT(*) FROM access_tokens") == [(3,)]
