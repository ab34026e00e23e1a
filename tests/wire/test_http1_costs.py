"""What one request costs in HTTP/1.1: tasks, timers and writes. A change that raises a count makes every request slower."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from quart_async_api.server.http1 import Connection

from .http1_wire import Wire, alone

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
REQUESTS = 10


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("sent", [GET, POST], ids=["GET", "POST"])
async def test_a_request_costs_one_task_one_write_and_no_timer(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    loop, counts = asyncio.get_running_loop(), Counter[str]()
    server, wire = alone(app), Wire()
    connection = Connection(server)
    connection.connection_made(wire)  # with its timer
    for name in ("create_task", "create_future", "call_later", "call_at"):
        kept = getattr(loop, name)

        def counted(*args: Any, name: str = name, kept: Any = kept, **options: Any) -> Any:
            counts[name] += 1
            return kept(*args, **options)

        monkeypatch.setattr(loop, name, counted)
    for _ in range(REQUESTS):
        connection.data_received(sent)
        await asyncio.sleep(0)
    monkeypatch.undo()
    assert (wire.writes, dict(counts)) == (REQUESTS, {"create_task": REQUESTS})
    assert wire.written.count(b"HTTP/1.1 200 ") == REQUESTS
    connection.connection_lost(None)
    wire.close()
    server.close()
