"""A real server with tasks of the tests, and both clients behind one interface."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from quart_async_api.client import AsyncClient, Client
from tests.process.conftest import CHECKOUT, serve
from tests.server_process import ServerProcess

WORKLOAD = {"QAA_TASKS": "tests.client.workload", "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[ServerProcess]:
    with serve(tmp_path_factory.mktemp("server"), migrated_file, **WORKLOAD) as server:
        yield server
        assert server.stop() == 0, server.log
    assert_no_fault_but_the_tasks(server)


def assert_no_fault_but_the_tasks(server: ServerProcess) -> None:
    """The server has no fault of its own to report; that a task failed as it should is one of the task's."""
    assert server.log.count("Traceback") == server.log.count("ValueError: as it should"), server.log
    assert "never " not in server.log


class Blocking:
    """An AsyncClient with the methods of a Client."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **options)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made = method(*args, **kwargs)
            return self._iterate(made) if hasattr(made, "__anext__") else self._runner.run(made)

        return call

    def _iterate(self, items: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items, None)

        async def close() -> None:
            await items.aclose()

        try:
            while (item := self._runner.run(following())) is not None:
                yield item
        finally:
            self._runner.run(close())


class LosesFirstAnswer(httpx.HTTPTransport):
    """The first request arrives, its answer does not."""

    lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if not self.lost:
            self.lost += 1
            response.read()
            response.close()
            raise httpx.ReadError("lost")
        return response


class AsyncLosesFirstAnswer(httpx.AsyncHTTPTransport):
    lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if not self.lost:
            self.lost += 1
            await response.aread()
            await response.aclose()
            raise httpx.ReadError("lost")
        return response


class Connect(Protocol):
    def __call__(self, url: str, *, loses: bool = False, **options: Any) -> Client: ...


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes a client of either kind; with `loses`, on a connection that loses its first answer."""
    with ExitStack() as stack:

        def connect(url: str, *, loses: bool = False, **options: Any) -> Any:
            if request.param == "Client":
                if loses:
                    options["transport"] = LosesFirstAnswer()
                client: Any = Client(url, **options)
            else:
                if loses:
                    options["transport"] = AsyncLosesFirstAnswer()
                client = Blocking(url, **options)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def client(connect: Connect, server: ServerProcess) -> Client:
    return connect(server.url)
