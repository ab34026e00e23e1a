"""The order in which work ends."""

import asyncio
import contextvars

import pytest

from quart_async_api.errors import ShuttingDown
from quart_async_api.lifecycle import Lifecycle


async def test_draining_waits_for_what_runs() -> None:
    lifecycle = Lifecycle(60)
    release, done = asyncio.Event(), []

    async def background() -> None:
        await release.wait()
        done.append("background")

    async def in_request() -> None:
        async with lifecycle.wait():
            await release.wait()
            done.append("request")

    lifecycle.spawn(background(), name="background")
    request = asyncio.create_task(in_request())
    drain = asyncio.create_task(lifecycle.drain())
    await lifecycle.draining.wait()
    assert not drain.done()
    release.set()
    await drain
    await request
    assert sorted(done) == ["background", "request"]


async def test_what_outlasts_the_drain_is_ended_and_its_caller_told() -> None:
    lifecycle = Lifecycle(0)
    ended = asyncio.Event()

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def in_request() -> None:
        async with lifecycle.wait():
            await asyncio.Event().wait()

    task = lifecycle.spawn(background(), name="background")
    request = asyncio.create_task(in_request())
    await asyncio.sleep(0)
    await lifecycle.drain()
    assert ended.is_set()
    assert task.cancelled()
    with pytest.raises(ShuttingDown):
        await request


async def test_no_work_is_taken_once_draining_has_begun() -> None:
    lifecycle = Lifecycle(0)
    await lifecycle.drain()
    work = asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        lifecycle.spawn(work, name="late")
    with pytest.raises(ShuttingDown):
        async with lifecycle.wait():
            pass


async def test_a_timeout_of_the_work_itself_is_not_taken_for_a_shutdown() -> None:
    with pytest.raises(TimeoutError):
        async with Lifecycle(0).wait():
            raise TimeoutError


async def test_background_work_inherits_nothing_of_its_request() -> None:
    lifecycle = Lifecycle(0)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="of the start")
    lifecycle.start()
    variable.set("of the request")
    seen = asyncio.get_running_loop().create_future()

    async def look() -> None:
        seen.set_result(variable.get())

    lifecycle.spawn(look(), name="look")
    assert await seen == "of the start"


async def test_background_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    lifecycle = Lifecycle(1)

    async def fail() -> None:
        raise RuntimeError("why")

    lifecycle.spawn(fail(), name="job 1")
    await lifecycle.drain()
    assert "job 1 failed" in caplog.text
    assert "why" in caplog.text


async def test_work_that_swallows_its_cancellation_does_not_hold_the_shutdown() -> None:
    lifecycle = Lifecycle(0)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = lifecycle.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    await lifecycle.drain()
    assert not task.done()
    release.set()
    await task
