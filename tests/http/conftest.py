"""An app with tasks that a test can hold, and its jobs' events as they come."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from quart import Quart
from quart.testing import QuartClient
from quart.testing.connections import TestHTTPConnection

from quart_async_api import App, Settings, create_app
from quart_async_api.moments import ServiceClock

from . import job_tasks

Document = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    id: str
    name: str
    data: Document


def read_events(text: str) -> list[Told]:
    """The events of a stream, comments and retry times left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append(Told(fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


class Reader:
    """Reads a stream event by event; what is left when its test lets go is in `rest`."""

    def __init__(self, connection: TestHTTPConnection) -> None:
        self._connection = connection
        self._waiting: list[Told] = []

    @property
    def connection(self) -> TestHTTPConnection:
        return self._connection

    async def next(self) -> Told:
        while not self._waiting:
            self._waiting = read_events((await self._connection.receive()).decode())
        return self._waiting.pop(0)

    async def comment(self) -> str:
        while not (text := (await self._connection.receive()).decode()).startswith(":"):
            pass
        return text

    async def leave(self) -> None:
        await self._connection.disconnect()

    def rest(self) -> list[Told]:
        return [*self._waiting, *read_events(self._connection.response_data.decode())]


Watch = Callable[..., AbstractAsyncContextManager[Reader]]


@pytest.fixture
def job_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"cancel_seconds": 1})


@pytest.fixture
async def job_app(job_settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(job_settings, tasks=[job_tasks])
    job_tasks.add_routes(app)
    async with app.test_app():
        yield app


@pytest.fixture
def jobs(job_app: Quart) -> QuartClient:
    return cast("QuartClient", job_app.test_client())


@pytest.fixture
def watch(jobs: QuartClient) -> Watch:
    """Open a stream; the test reads it, and leaves it or lets it end."""

    @asynccontextmanager
    async def opened(path: str, method: str = "GET", **headers: str) -> AsyncIterator[Reader]:
        named = {"Accept": "text/event-stream"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with jobs.request(path, method=method, headers=named) as connection:
            await connection.send_complete()
            assert (await connection.receive()).startswith(b"retry: ")  # it has begun
            yield Reader(cast("TestHTTPConnection", connection))

    return opened


async def started(client: QuartClient, task: str, **members: Any) -> Document:
    """The document of a new job."""
    response = await client.post("/jobs", json={"task": task, **members})
    assert response.status_code == 202, await response.get_data()
    return cast("Document", await response.get_json())


async def ended(client: QuartClient, job: Document) -> Document:
    """The document of a job when it has ended."""
    response = await client.get(job["links"]["self"], headers={"Prefer": "wait=30"})
    document = cast("Document", await response.get_json())
    assert document["status"] in ("succeeded", "failed", "cancelled")
    return document


async def running(client: QuartClient, watch: Watch, name: str, **members: Any) -> Document:
    """A job of the task `held`, or of another like it, running, whose gate has this name."""
    job = await started(client, members.pop("task", "held"), args={"name": name, **members.pop("args", {})}, **members)
    async with watch(job["links"]["events"]) as reader:
        told = await reader.next()
        while told.name != "progress" and not told.data.get("progress"):
            told = await reader.next()
        await reader.leave()
    return job


async def all_jobs(client: QuartClient) -> list[Document]:
    return cast("list[Document]", (await (await client.get("/jobs?limit=100")).get_json())["items"])


def pass_time(app: Quart, **by: float) -> None:
    """Set the clock of the app ahead: `pass_time(app, days=1)`."""
    clock = cast("App", app).service.clock
    assert isinstance(clock, ServiceClock)
    clock.ahead += timedelta(**by)
