"""The one wiring: each part is stopped whatever becomes of the others, and what went wrong is told."""

import ast
import asyncio
import inspect
import logging
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from functools import reduce
from types import ModuleType
from typing import Any

import pytest

from quart_async_api import Settings, create_app
from quart_async_api.errors import DatabaseUnavailable, ShuttingDown
from quart_async_api.jobs.states import Status
from quart_async_api.lifecycle import Lifecycle
from quart_async_api.service import Service
from quart_async_api.services.submissions import Options
from quart_async_api.tasks import registry

from . import sample_tasks
from .conftest import until


def _stops(*methods: Callable[..., Any]) -> list[str]:
    """The calls that these methods leave to their exit stack, as they are written there."""
    return [
        ast.unparse(node.args[1])
        for method in methods
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method))))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stack.push_async_callback"
    ]


STOPS = _stops(Service.connected, Service.running)
PARTS = [stop.removeprefix("self.") for stop in STOPS if stop.startswith("self.")]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Not here."""
    caplog.set_level(logging.INFO, "quart_async_api")


class Broken(Exception):
    """A part that cannot be stopped."""


@pytest.fixture
def made(settings: Settings) -> Service:
    return Service(settings, registry([sample_tasks]))


def spy(service: Service, stopped: list[str], *broken: str) -> None:
    """Note which parts are stopped; those that are broken raise when they have done so."""
    for path in PARTS:
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, service)
        stop = getattr(owner, name)

        def spied(path: str = path, stop: Callable[..., Any] = stop) -> Any:
            stopped.append(path)
            return stop()

        async def spied_async(path: str = path, stop: Callable[..., Any] = stop) -> None:
            stopped.append(path)
            await stop()
            if path in broken:
                raise Broken(path)

        def spied_and_broken(path: str = path, stop: Callable[..., Any] = stop) -> None:
            stop()
            stopped.append(path)
            raise Broken(path)

        if inspect.iscoroutinefunction(stop):
            setattr(owner, name, spied_async)
        else:
            setattr(owner, name, spied_and_broken if path in broken else spied)


@asynccontextmanager
async def up(service: Service) -> AsyncIterator[Service]:
    async with service.opened():
        with service.database.bind():
            async with service.running():
                yield service


def test_every_part_that_is_stopped_is_walked_here() -> None:
    assert {"engine.stop", "sender.stop", "presence.stop", "lifecycle.drain", "database.stop"} <= set(PARTS)
    assert [stop for stop in STOPS if not stop.startswith("self.")] == ["background.close"]


@pytest.mark.parametrize("broken", PARTS)
async def test_one_part_that_failed_to_stop_kept_the_others_from_being_stopped(made: Service, broken: str) -> None:
    stopped: list[str] = []
    before = asyncio.all_tasks()
    spy(made, stopped, broken)
    with pytest.raises(Broken, match=broken):
        async with up(made):
            pass
    assert set(stopped) == set(PARTS)
    assert asyncio.all_tasks() - before == set()


async def test_of_several_failures_all_but_the_last_were_lost(made: Service, caplog: pytest.LogCaptureFixture) -> None:
    stopped: list[str] = []
    spy(made, stopped, *PARTS)
    with pytest.raises(Broken):
        async with up(made):
            pass
    assert set(stopped) == set(PARTS)
    told = {str(line.exc_info[1]) for line in caplog.records if line.exc_info is not None}
    # The drain stops the sender as well, and tells what that raised instead of its own.
    assert {*told, "lifecycle.drain"} == set(PARTS)


async def test_a_failure_in_the_block_itself_stops_all_parts(made: Service) -> None:
    stopped: list[str] = []
    spy(made, stopped)
    with pytest.raises(ZeroDivisionError):
        async with up(made):
            raise ZeroDivisionError
    assert set(stopped) == set(PARTS)


async def test_an_engine_that_does_not_start_leaves_nothing_open(made: Service) -> None:
    before = asyncio.all_tasks()

    async def fail() -> None:
        raise DatabaseUnavailable("gone")

    made.engine.start = fail  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailable):
        async with up(made):
            raise AssertionError
    assert asyncio.all_tasks() - before == set()


async def test_a_start_that_failed_after_the_engine_began_a_run_charged_the_job_a_crash(
    made: Service,
) -> None:
    start = made.engine.start

    async def start_and_fail() -> None:
        await start()
        await until(lambda: job.id in sample_tasks.running)
        raise DatabaseUnavailable("gone")

    made.engine.start = start_and_fail  # type: ignore[method-assign]
    made.lifecycle.drain_seconds = 0.05
    async with made.opened():
        with made.database.bind():
            hold = made.submissions.task("hold")
            job = await made.submissions.submit(hold, made.submissions.arguments(hold, {}), Options())
            with pytest.raises(DatabaseUnavailable, match="gone"):
                async with made.running():
                    raise AssertionError
            left = await made.store.reading.get(job.id, None)
    assert (left.status, left.attempt, left.worker) == (Status.QUEUED, 0, None)


async def test_one_part_that_failed_to_drain_left_the_others_running() -> None:
    lifecycle, drained = Lifecycle(0.1), []

    async def fails(grace: float) -> None:
        raise Broken("drain")

    async def drains(grace: float) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        drained.append(grace)

    lifecycle.drains += (fails, drains)
    with pytest.raises(Broken):
        await lifecycle.drain()
    assert drained == [0.1]
    with pytest.raises(ShuttingDown):
        async with lifecycle.arrival():
            await asyncio.Event().wait()


async def test_a_process_that_was_ended_by_force_after_its_drain_was_taken_for_dead(made: Service) -> None:
    async with up(made) as service:
        assert list(await service.store.workers.beats()) == [service.presence.id]
        # As `serve` does: outside of the app, whose requests are bound to the database.
        await asyncio.create_task(service.lifecycle.drain(), context=Context())
        assert await service.store.workers.beats() == {}


async def test_a_database_that_is_away_at_the_end_of_the_drain_does_not_hold_it(
    made: Service,
) -> None:
    lifecycle, let_go = made.lifecycle, asyncio.Event()

    async def waits() -> None:
        await let_go.wait()

    async def fails() -> None:
        raise DatabaseUnavailable("gone")

    lifecycle.on_drained += (waits, fails)
    async with asyncio.timeout(60), up(made):
        await lifecycle.drain()
        let_go.set()


async def test_what_fails_to_stop_is_told_to_the_server(settings: Settings) -> None:
    app = create_app(settings, tasks=[ModuleType("none")])
    spy(app.service, [], "poster.aclose")
    await app.startup()
    with pytest.raises(Broken, match=r"poster\.aclose"):
        await app.shutdown()
