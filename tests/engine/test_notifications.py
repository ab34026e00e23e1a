"""Processes wake each other: here no poll finds anything in time, so that only a wake-up can."""

import asyncio

import psycopg
import pytest

from quart_async_api.db.notifications import Wake
from quart_async_api.jobs.states import Status
from tests.postgresql import of_psycopg

from .conftest import PATIENCE, Make, Service, until

pytestmark = pytest.mark.process
POLLS = (
    "jobs.events.POLL_SECONDS",
    "jobs.runs.CHECK_SECONDS",
    "jobs.embedded.SWEEP_SECONDS",
    "callbacks.sender.POLL_SECONDS",
)


@pytest.fixture
def backend(migrated_postgresql: str) -> str:
    return migrated_postgresql


@pytest.fixture(autouse=True)
def _no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POLLS:
        monkeypatch.setattr(f"quart_async_api.{name}", 3600.0)


async def hears(service: Service) -> Service:
    await until(lambda: service.notifications._connection is not None)
    return service


async def test_an_event_of_one_process_reaches_the_watchers_of_another(make: Make) -> None:
    service, other = await make(), await hears(await make(engine=False))
    await hears(service)
    job = await service.submit("talk", steps=3)
    async with other.feed.watch(job.id) as watcher, asyncio.timeout(PATIENCE):
        names: list[str] = []
        while "succeeded" not in names:
            await watcher.woken()
            names += [event.name for event in watcher.take()]


async def test_a_job_that_one_process_cannot_begin_is_begun_by_another_at_once(make: Make) -> None:
    busy = await hears(await make(job_concurrency=1))
    held = await busy.submit("hold")
    await until(lambda: len(busy.runs) == 1)
    idle = await hears(await make())
    await until(lambda: idle.engine._dispatching.succeeded_at is not None)  # type: ignore[attr-defined]
    assert (await asyncio.wait_for(busy.run("double", number=2), PATIENCE)).worker is None
    await idle.submissions.cancel(held.id)
    assert (await asyncio.wait_for(busy.wait(held), PATIENCE)).status is Status.CANCELLED


async def test_a_process_without_an_engine_leaves_its_jobs_to_another_at_once(make: Make) -> None:
    await hears(await make())
    plain = await hears(await make(engine=False))
    plain.engine._open = False  # type: ignore[attr-defined]
    assert (await asyncio.wait_for(plain.run("double", number=2), PATIENCE)).status is Status.SUCCEEDED


async def test_many_changes_share_a_message_and_a_process_does_not_wake_itself(make: Make) -> None:
    one, other = await hears(await make(engine=False)), await hears(await make(engine=False))
    heard: list[str] = []
    one.notifications.on(Wake.CANCEL, lambda ids: heard.append("by itself"))
    other.notifications.on(Wake.CANCEL, heard.extend)
    before = one.notifications.sent
    for number in range(400):
        one.notifications.tell(Wake.CANCEL, f"job {number}")
    await until(lambda: len(heard) >= 400)
    assert heard == [f"job {number}" for number in range(400)]
    assert one.notifications.sent - before == 3


async def test_it_is_heard_again_after_the_server_was_restarted(backend: str, make: Make) -> None:
    one, other = await hears(await make(engine=False)), await hears(await make(engine=False))
    heard: list[object] = []
    other.notifications.on(Wake.CANCEL, heard.append)
    with psycopg.connect(of_psycopg(backend)) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await until(lambda: () in heard)  # connected anew: what was told meanwhile may be lost
    await hears(one)

    async def told() -> bool:
        one.notifications.tell(Wake.CANCEL, "job")
        await asyncio.sleep(0.01)
        return ["job"] in heard

    await until(told)


async def test_a_server_that_answers_no_more_is_left(make: Make) -> None:
    """A connection that was cut without a word: two checks are unanswered."""
    service = await hears(await make(engine=False))
    connection = service.notifications._connection
    service.notifications._unanswered = 2
    await service.notifications.check()
    assert service.notifications._connection not in (None, connection)
    await until(lambda: service.notifications._unanswered == 0)


async def test_a_caller_has_one_rate_limit_in_all_processes(make: Make) -> None:
    one, other = [await hears(await make(engine=False, rate_limit="10/hour")) for _ in range(2)]
    assert one.limits is not None
    assert other.limits is not None
    limits = other.limits
    for _ in range(6):
        one.limits.take("key a")
    one.limits.take("key b")
    await until(lambda: {key: window.taken for key, window in limits._windows.items()} == {"key a": 6, "key b": 1})
    assert [limits.take("key a").exceeded for _ in range(5)] == [False] * 4 + [True]
    await until(lambda: one.limits is not None and one.limits._windows["key a"].taken == 10)
    assert one.limits.take("key a").exceeded
