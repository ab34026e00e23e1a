"""Clients that leave at the very moment their body is complete: Python 3.11's `asyncio.wait_for` loses a cancellation then."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import pytest
from quart import Quart, Response

from quart_async_api import Settings
from quart_async_api.app import create_app
from quart_async_api.http.parts import parts_of

PATIENCE = 60.0
LATEST = 40  # turns of the loop after the body; more than a request takes from there to its route


async def request(app: Quart, path: str, turns: int, later: asyncio.Event | None = None) -> None:
    """Send a request whose body comes after `turns` turns of the loop, and whose client leaves in the same moment.

    With `later`, it leaves when that is set instead.
    """
    arrived = False

    async def receive() -> Any:
        nonlocal arrived
        if arrived:
            if later is not None:
                await later.wait()
            return {"type": "http.disconnect"}
        for _ in range(turns):
            await asyncio.sleep(0)
        arrived = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    await app(cast("Any", scope), receive, cast("Any", send))


@pytest.mark.parametrize("path", ["/jobs/events", "/test"])
async def test_a_client_that_left_as_its_body_was_complete_kept_its_stream_or_its_call_for_ever(
    settings: Settings, path: str
) -> None:
    app = create_app(settings.model_copy(update={"delay": 600.0}))
    async with app.test_app():
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for turns in range(LATEST):
                group.create_task(request(app, path, turns))
        service = parts_of(app)
        gc.collect()  # the place of a stream that never began goes with its answer, which an exception may hold in a circle
        assert (len(service.streams), service.lifecycle.waits) == (0, 0)


async def test_a_stream_of_a_handler_that_swallowed_its_cancellation_went_on_without_a_reader(
    settings: Settings,
) -> None:
    app = create_app(settings)
    waiting = asyncio.Event()

    @app.get("/own")
    async def own() -> Response:
        waiting.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(600)

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"more\n"

        response = Response(body())
        response.timeout = None
        return response

    async with app.test_app(), asyncio.timeout(PATIENCE):
        await request(app, "/own", 0, waiting)
