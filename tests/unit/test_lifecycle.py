"""The order in which work ends."""

import asyncio
import contextvars
import gc
import weakref

import pytest

from quart_async_api.background.tasks import BackgroundTasks
from quart_async_api.errors import ShuttingDown
from quart_async_api.lifecycle import Lifecycle


async def test_draining_waits_for_what_runs() -> None:
    lifecycle = Lifecycle(60)
    release, done = asyncio.Event(), []

    async def jobs(seconds: float) -> None:
        await release.wait()
        done.append(f"jobs within {seconds:g} s")

    async def in_request() -> None:
        async with lifecycle.wait():
            await release.wait()
            done.append("request")

    lifecycle.drains.append(jobs)
    lifecycle.on_drain.append(lambda: done.append("told"))
    request = asyncio.create_task(in_request())
    drain = asyncio.create_task(lifecycle.drain())
    await lifecycle.draining.wait()
    assert not drain.done()
    release.set()
    await drain
    await request
    assert done == ["told", "request", "jobs within 60 s"] or done == ["told", "jobs within 60 s", "request"]


async def test_what_outlasts_the_drain_is_ended_and_its_caller_told() -> None:
    lifecycle = Lifecycle(0)

    async def in_request() -> None:
        async with lifecycle.wait():
            await asyncio.Event().wait()

    request = asyncio.create_task(in_request())
    await asyncio.sleep(0)
    await lifecycle.drain()
    with pytest.raises(ShuttingDown):
        await request


async def test_a_body_that_never_comes_does_not_hold_the_drain() -> None:
    lifecycle = Lifecycle(60)

    async def in_request() -> None:
        async with lifecycle.arrival():
            await asyncio.Event().wait()

    request = asyncio.create_task(in_request())
    await asyncio.sleep(0)
    await lifecycle.drain()
    with pytest.raises(ShuttingDown):
        await request


async def test_no_work_is_taken_once_draining_has_begun() -> None:
    lifecycle = Lifecycle(0)
    await lifecycle.drain()
    with pytest.raises(ShuttingDown):
        lifecycle.admit()
    with pytest.raises(ShuttingDown):
        async with lifecycle.wait():
            pass


async def test_a_timeout_of_the_work_itself_is_not_taken_for_a_shutdown() -> None:
    with pytest.raises(TimeoutError):
        async with Lifecycle(0).wait():
            raise TimeoutError


async def test_work_that_swallows_its_cancellation_does_not_hold_the_shutdown() -> None:
    lifecycle = Lifecycle(0)
    release = asyncio.Event()

    async def stubborn() -> None:
        async with lifecycle.wait():
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await lifecycle.drain()
    assert not task.done()
    release.set()
    await task


async def test_what_arrives_when_the_drain_is_over_is_ended_too() -> None:
    lifecycle = Lifecycle(0)
    await lifecycle.drain()
    with pytest.raises(ShuttingDown):
        async with lifecycle.arrival():
            await asyncio.get_running_loop().create_future()


async def test_background_work_inherits_nothing_of_its_request() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="of the start")
    background = BackgroundTasks()
    variable.set("of the request")

    async def look() -> str:
        return variable.get()

    assert await background.spawn(look(), name="look") == "of the start"


async def test_background_work_that_nobody_else_refers_to_is_kept() -> None:
    background = BackgroundTasks()

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    task = weakref.ref(background.spawn(forever(), name="forever"))
    await asyncio.sleep(0)
    gc.collect()
    assert task() is not None
    await background.close(grace=1)


async def test_background_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("why")

    await asyncio.wait([BackgroundTasks().spawn(fail(), name="job 1")])
    assert "job 1 failed" in caplog.text
    assert "why" in caplog.text
