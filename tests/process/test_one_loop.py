"""A thousand slow calls together: one event loop, one Tortoise initialisation, one client, and no thread for any of them."""

import asyncio
import selectors
import threading
from contextlib import ExitStack

import httpx
import psutil
import pytest
from quart import Quart

from quart_async_api import Settings, create_app
from quart_async_api.http.parts import parts_of
from tests.process.conftest import Start
from tests.process.wire import connection, get, head, receive

CALLS = 1000


class CountedTransport(httpx.AsyncBaseTransport):
    """What is under the service's HTTP client; counts how often one was closed over it, and answers everything with 1."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        return httpx.Response(200, json=1)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def transport() -> CountedTransport:
    return CountedTransport()


@pytest.fixture
def app(settings: Settings, transport: CountedTransport) -> Quart:
    return create_app(settings.model_copy(update={"delay": 3.0}), transport=transport)


async def test_a_hundred_calls_of_an_upstream_share_one_client(app: Quart, transport: CountedTransport) -> None:
    async with app.test_app():
        client = app.test_client()
        answers = await asyncio.gather(*(client.get("/external-api") for _ in range(100)))
        assert {answer.status_code for answer in answers} == {200}
        assert (transport.calls, transport.closed) == (100, 0)
    assert transport.closed == 1


@pytest.mark.slow
async def test_a_thousand_calls_wait_together_on_one_initialisation_and_no_thread(app: Quart) -> None:
    service = parts_of(app)
    async with app.test_app():
        client = app.test_client()
        await client.get("/users")
        threads = threading.active_count()
        calls = [asyncio.create_task(client.get("/test")) for _ in range(CALLS)]
        while service.lifecycle.waits < CALLS:
            assert not any(call.done() for call in calls)
            await asyncio.sleep(0)
        assert threading.active_count() == threads
        assert {call.status_code for call in await asyncio.gather(*calls)} == {200}
        assert service.lifecycle.waits == 0
        assert service.database.starts == 1


@pytest.mark.process
def test_a_process_holds_a_thousand_calls_at_once_and_starts_no_thread_for_them(start: Start) -> None:
    server = start(QAA_DELAY="4")
    get(server.port, "/users")
    process = psutil.Process(server.pid)
    threads = process.num_threads()
    with ExitStack() as stack:
        links = [stack.enter_context(connection(server.port)) for _ in range(CALLS)]
        for link in links:
            link.sendall(head("GET", "/test"))
        get(server.port, "/health/live")  # came last, is answered: all the others have begun
        with selectors.DefaultSelector() as answers:
            for link in links:
                answers.register(link, selectors.EVENT_READ)
            assert answers.select(0) == []
        assert process.num_threads() == threads
        assert process.num_fds() > CALLS
        assert {receive(link).status for link in links} == {200}
    assert process.num_threads() == threads
