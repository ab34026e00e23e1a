"""Background loops go on whatever a round raises, and the service says which of them does not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

import pytest
from quart import Quart

from quart_async_api import Settings, create_app, stored
from quart_async_api.access.admissions import Admission
from quart_async_api.background.loops import Loop
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.http.parts import parts_of
from quart_async_api.jobs.states import Status

from . import sample_tasks
from .conftest import Make, until

# The table without which each loop fails; None: it needs none.
TABLES = {
    "dispatcher": "jobs",
    "check of runs": "jobs",
    "sweep for jobs": "jobs",
    "heartbeat": "workers",
    "sweep for dead workers": "workers",
    "event feed": "job_events",
    "pings of streams": None,
    "callback dispatcher": "callback_queues",
    "sweep for orphaned callbacks": "callback_queues",
    "janitor": "job_tombstones",
    "scheduler": "schedule_ticks",
    "paused tasks": "task_states",
    "event-loop lag": None,
    "open streams": "api_keys",
    "watch for trouble": None,  # which keeps its figures for some seconds
}


@pytest.fixture
async def app(backend: str) -> AsyncIterator[Quart]:
    """The whole service, its loops running."""
    app = create_app(Settings(database_url=backend, delay=0, drain_seconds=1, lease_seconds=5), tasks=[sample_tasks])
    async with app.test_app():
        yield app


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_every_loop_of_the_service_is_walked_here(app: Quart) -> None:
    assert {loop.name for loop in parts_of(app).loops} == set(TABLES)


async def test_a_loop_whose_table_is_gone_for_a_moment_goes_on_and_is_told_of_meanwhile(
    app: Quart, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quart_async_api.background.loops.FIRST_BACKOFF_SECONDS", 0.02)
    caplog.set_level(logging.INFO, "quart_async_api.background.loops")
    service = parts_of(app)
    client = app.test_client()
    async with AsyncExitStack() as opened:
        opened.enter_context(service.admissions.holding(Admission()))
        await opened.enter_async_context(service.feed.watch(None))
        await _all_succeed(service.loops)
        for table in sorted({table for table in TABLES.values() if table}):
            broken = [loop for loop in service.loops if TABLES[loop.name] == table]
            caplog.clear()
            await service.database.client.execute_query(f"ALTER TABLE {table} RENAME TO away")
            for loop in broken:
                loop.wake()
            await until(lambda broken=broken: all(loop.failures > 1 for loop in broken))  # type: ignore[misc]
            for loop in broken:
                loop.patience = 0.0
            report = await client.get("/health/ready")
            assert report.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            checks = (await report.get_json())["checks"]
            failing = {name for name, [check] in checks.items() if check["status"] == "fail"}
            assert failing >= {f"{loop.name}:last-success" for loop in broken}
            for loop in broken:
                loop.patience = 15.0
                told = [one for one in caplog.records if one.message.startswith(f"{loop.name} failed")]
                assert len(told) == 1, told
            await service.database.client.execute_query(f"ALTER TABLE away RENAME TO {table}")
            await until(lambda broken=broken: all(loop.error is None for loop in broken))  # type: ignore[misc]
    report = await client.get("/health/ready")
    assert report.status_code == HTTPStatus.OK
    checks = (await report.get_json())["checks"]
    assert all(
        check["time"] for name, [check] in checks.items() if "last-success" in name and "dispatcher:" not in name
    )
    answer = await client.post("/jobs", json={"task": "test", "args": {}}, headers={"Prefer": "respond-async, wait=30"})
    assert (await answer.get_json())["status"] == "succeeded"


async def _all_succeed(loops: tuple[Loop, ...]) -> None:
    for loop in loops:
        loop.wake()
    await until(lambda: all(loop.succeeded_at is not None for loop in loops))


@pytest.mark.parametrize("fault", [ValueError("x"), DatabaseUnavailable("x"), asyncio.CancelledError(), TimeoutError()])
async def test_a_loop_survives_what_a_round_raises_and_says_so_once(
    fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0
    caplog.set_level(logging.INFO, "quart_async_api.background.loops")

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 4:
            raise fault

    loop = Loop("a loop", work, every=0.01)
    running = asyncio.create_task(loop.run())
    await until(lambda: rounds > 4)
    assert (loop.error, loop.failures, loop.is_overdue) == (None, 0, False)
    assert loop.succeeded_at is not None
    assert [one.levelno for one in caplog.records if one.name.endswith(".loops")][1:] == [logging.INFO]
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()


async def test_a_loop_that_hangs_or_whose_task_is_gone_is_overdue() -> None:
    loop = Loop("a loop", asyncio.Event().wait, every=None, patience=0.0)
    assert not loop.is_overdue
    loop.wake()
    await until(lambda: loop.is_overdue)
    running = asyncio.create_task(loop.run())
    await until(lambda: loop.is_overdue)
    running.cancel()


async def test_an_event_that_cannot_be_read_holds_up_no_other_jobs_watchers(make: Make) -> None:
    service = await make()
    bad = await service.submit("hold")
    good = await service.submit("hold", name="other")
    async with service.feed.wait(good.id) as waiter:

        async def write(*statement: Any) -> None:
            def unit() -> Any:
                yield statement

            await service.commits.run(unit)

        for number, data in ((90, "{nonsense"), (91, "[]")):
            await write(
                "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, ?, 'log', ?, '')",
                (bad.id, number, data),
            )
        service.feed.notify()
        await service.submissions.cancel(good.id)
        assert (await service.wait(good)).status is Status.CANCELLED
        await waiter.woken()
    assert [event.data for event in await service.store.history.events(bad.id, 0)] == [{}, {}]
    assert {f"event {number} of job {bad.id}" for number in (90, 91)} <= stored.unreadable
