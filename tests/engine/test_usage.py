"""What is stored for an owner is counted until it is deleted, and at no time twice or not at all."""

from typing import Any

import pytest

from quart_async_api.access.caller import Caller
from quart_async_api.db.group_commit import Unit
from quart_async_api.errors import KeyTaken, QuotaExceeded
from quart_async_api.jobs.states import JobRecord
from quart_async_api.jobs.usage import NO_QUOTA, Quota
from quart_async_api.moments import later, timestamp
from quart_async_api.services import idempotency
from quart_async_api.services.idempotency import JobReply, Key, Reply

from .conftest import Make, Service

OWNER = "owner"
ANSWER = Reply(201, {"Location": "/user/1"}, "x" * 1000, None)


async def used(service: Service) -> dict[str, Any] | None:
    rows = await service.database.read("SELECT jobs, bytes FROM job_usage WHERE owner = ?", OWNER)
    return rows[0] if rows else None


def key_of(number: int, ttl: float = 60) -> Key:
    return Key(f"digest {number}", "fingerprint", ttl, OWNER)


async def keep(service: Service, key: Key, quota: Quota = NO_QUOTA) -> None:
    """As `POST /add-user` does."""
    refusal = await service.commits.run(lambda: idempotency.keep(key, ANSWER, quota, timestamp(service.clock())))
    if refusal is not None:
        raise refusal


async def test_answers_that_started_no_job_were_kept_without_a_bound(make: Make) -> None:
    service = await make(engine=False)
    for number in range(4):
        await keep(service, key_of(number), Quota(size=5_000))
    with pytest.raises(QuotaExceeded, match="this key") as refused:
        await keep(service, key_of(4), Quota(size=5_000))
    assert refused.value.policy == "kept-bytes"
    with pytest.raises(KeyTaken):
        await keep(service, key_of(0))
    stored = await service.database.read("SELECT SUM(bytes) AS bytes FROM idempotency_keys")
    assert await used(service) == {"jobs": 0, "bytes": int(stored[0]["bytes"])}

    await service.store.retention.forget(timestamp(service.clock()))
    assert (await used(service) or {})["bytes"] > 4_000
    await service.store.retention.forget(later(timestamp(service.clock()), 61))
    assert await used(service) is None


async def test_an_answer_in_the_place_of_an_expired_one_is_taken_off_with_it(make: Make) -> None:
    service = await make(engine=False)
    for ttl in (-1, -1, 60):
        await keep(service, key_of(1, ttl=ttl))
        [kept] = await service.database.read("SELECT bytes FROM idempotency_keys")
        assert await used(service) == {"jobs": 0, "bytes": kept["bytes"]}
    await service.store.retention.forget(later(timestamp(service.clock()), 61))
    assert await used(service) is None


async def test_an_answer_of_the_release_before_was_given_back_to_the_wrong_owner(make: Make) -> None:
    service = await make(engine=False)
    await keep(service, key_of(1, ttl=-1))

    def as_before_it_was_counted() -> Unit[None]:
        yield ("UPDATE idempotency_keys SET owner = '', bytes = 0", ())
        yield ("DELETE FROM job_usage", ())

    await service.commits.run(as_before_it_was_counted)
    await keep(service, key_of(1))
    await service.store.retention.forget(later(timestamp(service.clock()), 61))
    assert await service.database.read("SELECT * FROM job_usage") == []


async def test_the_answer_that_a_job_left_behind_was_counted_no_longer(make: Make) -> None:
    service = await make(result_ttl=1)
    task = service.submissions.task("double")
    arguments = service.submissions.arguments(task, {"number": 1})

    def reply_of(job: JobRecord) -> Reply:
        return Reply(202, {}, job.args * 100, job.id)

    job = await service.submissions.submit(task, arguments, caller=Caller(OWNER), key=JobReply(key_of(1), reply_of))
    await service.wait(job)
    [stored] = await service.database.read("SELECT bytes FROM jobs")
    [kept] = await service.database.read("SELECT bytes FROM idempotency_keys")
    assert await used(service) == {"jobs": 1, "bytes": stored["bytes"] + kept["bytes"]}
    assert await service.store.retention.expire(later(timestamp(service.clock()), 5), 60) == 1
    assert await used(service) == {"jobs": 0, "bytes": kept["bytes"]}
    await service.store.retention.forget(later(timestamp(service.clock()), 61))
    assert await used(service) is None
