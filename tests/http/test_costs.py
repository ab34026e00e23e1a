"""What one request of each hot route costs, in counts that no noise changes: a later change that costs more fails here.

A count that falls is good news: write it down, so that it stays.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from quart_async_api import Settings, create_app
from quart_async_api.app import App
from quart_async_api.http.quart_connection import SERVER_CANCELS

ROUNDS = 60  # at most: a background loop may use the database in some of them: the smallest count is the request's own

_counting: ContextVar["Counting | None"] = ContextVar("counting", default=None)


class Request(NamedTuple):
    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class Costs:
    """`tasks`: made on the event loop. `timers`: armed. `variables`: context variables set. `receives`, `sends`: calls of
    the server's functions. `statements`: of the database. `hops`: back from another thread. `calls`: of Python functions,
    at most so many, because they differ between versions of Python.
    """

    tasks: int
    timers: int
    variables: int
    receives: int
    sends: int
    statements: int
    hops: int
    calls: int


HOT = {
    Request("GET", "/health/live"): Costs(0, 1, 4, 1, 2, 0, 0, 150),
    Request("GET", "/test"): Costs(0, 1, 4, 1, 2, 1, 1, 380),
    Request("GET", "/user/1"): Costs(0, 1, 4, 1, 2, 2, 2, 305),
    Request("GET", "/users"): Costs(0, 1, 4, 1, 2, 2, 2, 275),
    Request("GET", "/jobs"): Costs(0, 1, 4, 1, 2, 2, 2, 310),
    Request("POST", "/add-user", b'{"name": "Ada", "email": "ada@example.com"}'): Costs(0, 1, 4, 1, 2, 5, 2, 400),
    Request("POST", "/jobs", b'{"task": "test", "delay": 3600}'): Costs(0, 1, 4, 1, 2, 6, 2, 530),
}


class Counting:
    """Counts what a request does, and what any thread or connection does meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.found = dict.fromkeys((field.name for field in fields(Costs)), 0)
        self._loop = loop

    def add(self, name: str) -> None:
        self.found[name] += 1

    def add_own(self, name: str) -> None:
        if _counting.get() is self:
            self.found[name] += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        loop = self._loop
        call_at, call_soon_threadsafe = loop.call_at, loop.call_soon_threadsafe

        def make_task(loop: Any, coroutine: Any, **options: Any) -> Any:
            # Group commit's own is shared by all who write; a quick thread has ended the last one. Python 3.11 gives no name.
            if coroutine.__qualname__ != "GroupCommit._work":
                self.add_own("tasks")
            return asyncio.Task(coroutine, loop=loop, **options)

        def arm(*args: Any, **options: Any) -> Any:
            self.add_own("timers")
            return call_at(*args, **options)

        def hop(*args: Any, **options: Any) -> Any:
            self.add("hops")
            return call_soon_threadsafe(*args, **options)

        def profile(frame: Any, event: str, called: Any) -> None:
            if event == "call":
                self.add_own("calls")
            elif event == "c_call" and called.__name__ == "set" and isinstance(called.__self__, ContextVar):
                self.add_own("variables")

        mine = _counting.set(self)
        loop.set_task_factory(make_task)
        with patch.multiple(loop, call_at=arm, call_soon_threadsafe=hop):
            sys.setprofile(profile)
            try:
                yield
            finally:
                sys.setprofile(None)
                _counting.reset(mine)
                loop.set_task_factory(None)


@pytest.fixture
async def warm(statements: list[str], settings: Settings) -> AsyncIterator[App]:
    app = create_app(settings)
    async with app.test_app():
        await asked(app, Request("POST", "/add-user", b'{"name": "Grace", "email": "grace@example.com"}'))
        yield app


async def asked(
    app: App, request: Request, statements: list[str] | None = None, *, extensions: tuple[str, ...] = ()
) -> tuple[int, Costs]:
    """The status of an answer, and what it cost."""
    messages = [{"type": "http.request", "body": request.body, "more_body": False}]
    counting = Counting(asyncio.get_running_loop())
    status = 0

    async def receive() -> Any:
        counting.add("receives")
        if messages:
            return messages.pop()
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        nonlocal status
        counting.add("sends")
        status = message.get("status", status)

    sent = [(b"content-type", b"application/json"), (b"content-length", str(len(request.body)).encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost:8000"), (b"accept", b"*/*"), *(sent if request.body else ())],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "extensions": {key: {} for key in extensions},
    }
    before = len(statements or ())
    with counting.watching():
        await app(scope, receive, send)  # type: ignore[arg-type]
    counting.found["statements"] = len(statements or ()) - before
    return status, Costs(**counting.found)


def _another(request: Request, round: int) -> Request:
    """The same request once more, of another user."""
    return request._replace(body=request.body.replace(b"ada@", b"ada%d@" % round))


@pytest.mark.parametrize("request_", HOT, ids=lambda request: f"{request.method} {request.path}")
async def test_a_request_of_a_hot_route_costs_what_is_written_down(
    warm: App, statements: list[str], request_: Request
) -> None:
    most = HOT[request_]
    status, smallest = await asked(warm, request_, statements)
    for round in range(ROUNDS):
        assert status in (200, 201, 202)
        if smallest == replace(most, calls=smallest.calls) and smallest.calls <= most.calls:
            break
        status, costs = await asked(warm, _another(request_, round), statements)
        smallest = Costs(*map(min, zip(astuple(smallest), astuple(costs), strict=True)))
    assert smallest == replace(most, calls=smallest.calls)
    assert smallest.calls <= most.calls, f"{smallest.calls} calls of Python functions"


async def test_under_the_services_own_server_an_answer_that_is_taken_at_once_arms_no_timer(warm: App) -> None:
    for path in ("/health/live", "/test", "/user/1", "/users", "/jobs"):
        _, costs = await asked(warm, Request("GET", path), extensions=(SERVER_CANCELS,))
        assert (costs.timers, costs.tasks, costs.receives) == (0, 0, 1), path
