"""What blocks the event loop is named while it does: the task or the route, the place, and for how long."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.http.parts import parts_of
from quart_async_api.observability.loop_watch import OVERLOAD, Block, LoopWatch

from .conftest import ended, started

THRESHOLD = 0.1


_named = threading.Event()  # the log has named what blocks the loop


class _Names(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "stack" in vars(record):
            _named.set()


@pytest.fixture(autouse=True)
def _names() -> Iterator[None]:
    _named.clear()
    handler = _Names()
    logging.getLogger("quart_async_api").addHandler(handler)
    yield
    logging.getLogger("quart_async_api").removeHandler(handler)


def work_without_await(seconds: float = 20.0) -> None:
    """Use the processor for so long, or until the log has named it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _named.is_set():
        pass


@task("resize")
async def resize(ctx: TaskContext) -> None:
    """Forget to use a thread."""
    work_without_await()


@pytest.fixture
async def watched(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings.model_copy(update={"loop_block_seconds": THRESHOLD}), tasks=[sys.modules[__name__]])

    @app.get("/shop/<int:number>")
    async def shop(number: int) -> str:
        work_without_await()
        return "done"

    async with app.test_app():
        yield app


def lines(caplog: pytest.LogCaptureFixture, by: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if vars(record).get("blocked_by") == by]


def blocks_of(watch: LoopWatch) -> asyncio.Queue[Block]:
    blocks: asyncio.Queue[Block] = asyncio.Queue()
    watch.listeners.append(blocks.put_nowait)
    return blocks


async def next_block(blocks: asyncio.Queue[Block], by: str) -> Block:
    while (block := await blocks.get()).by != by:
        pass
    return block


async def test_a_task_that_blocked_the_loop_was_not_named(watched: Quart, caplog: pytest.LogCaptureFixture) -> None:
    client, watch = watched.test_client(), parts_of(watched).loop_watch
    assert isinstance(client, QuartClient)
    blocks = blocks_of(watch)
    await ended(client, await started(client, "resize"))
    block = await next_block(blocks, "task resize")
    assert block == watch.last
    assert block.seconds > THRESHOLD
    assert "test_blocked_loop.py:" in block.where
    assert block.where.endswith("in work_without_await")
    during, after = lines(caplog, "task resize")
    assert "work_without_await()" in during["stack"]
    assert "has been blocked" in during["message"]
    assert after["seconds"] > THRESHOLD
    checks = (await (await client.get("/health/ready")).get_json())["checks"]
    [check] = checks["event-loop:blocked"]
    assert check["status"] == "warn"
    assert check["output"].startswith("task resize blocked it for")


async def test_a_route_that_blocked_the_loop_was_not_named(watched: Quart, caplog: pytest.LogCaptureFixture) -> None:
    blocks = blocks_of(parts_of(watched).loop_watch)
    await watched.test_client().get("/shop/7")
    block = await next_block(blocks, "GET /shop/{number}")
    assert block.where.endswith("in work_without_await")
    during, _ = lines(caplog, "GET /shop/{number}")
    assert "in shop" in during["stack"]


async def test_a_loop_with_too_many_short_calls_was_blamed_on_one_of_them() -> None:
    watch = LoopWatch(THRESHOLD, {})
    blocks = blocks_of(watch)
    watch.start()
    try:
        await asyncio.sleep(0)

        async def short() -> None:
            work_without_await(0.01)

        await asyncio.gather(*(short() for _ in range(500)))
        assert (await next_block(blocks, OVERLOAD)).seconds > THRESHOLD
    finally:
        watch.stop()


@pytest.mark.slow
async def test_the_same_culprit_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    watch = LoopWatch(THRESHOLD, {test_the_same_culprit_is_told_once_a_minute.__code__: lambda seen: "task again"})
    blocks = blocks_of(watch)
    watch.start()
    try:
        work_without_await()
        await next_block(blocks, "task again")
        for _ in range(2):
            _named.clear()
            work_without_await(1)
            await next_block(blocks, "task again")
    finally:
        watch.stop()
    assert len(lines(caplog, "task again")) == 2
