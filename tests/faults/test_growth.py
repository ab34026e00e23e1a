"""Under a mixed load a server grows by nothing: memory, descriptors, threads and asyncio tasks stay what they were.

The load is made of rounds. After each the server is left alone until its connections have closed, and is measured. A line is
fitted through the measurements after the server has warmed up; its slope, per thousand operations, is bounded.
That a leak is found is shown on the same server by a task that leaks.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from tests.faults.cluster import CHECKOUT
from tests.process.conftest import Start

pytestmark = pytest.mark.process

AT_ONCE = 20
WARMING_UP = 560  # operations: caches fill, and each thread that reads the database begins, with a cache of its own
SETTLING = 5.0  # seconds
MIB = 1024**2
Measured = dict[str, float]
# What may be gained in a thousand operations: bytes, and counts. There are ten kinds of operation: one kind that loses a
# descriptor each time gains 100.
SHORT_BOUNDS = {"memory": 16.0 * MIB, "descriptors": 20.0, "threads": 20.0, "tasks": 20.0}
LONG_BOUNDS = {"memory": 0.5 * MIB, "descriptors": 0.5, "threads": 0.5, "tasks": 0.5}


def slope(counts: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the line through the points (counts, values), by least squares."""
    mean, middle = sum(counts) / len(counts), sum(values) / len(values)
    return sum((x - mean) * (y - middle) for x, y in zip(counts, values, strict=True)) / sum(
        (x - mean) ** 2 for x in counts
    )


def growth(measured: Sequence[Measured]) -> Measured:
    """What each figure gains in a thousand operations."""
    thousands = [one["operations"] / 1000 for one in measured]
    return {name: slope(thousands, [one[name] for one in measured]) for name in SHORT_BOUNDS}


class Load:
    """Operations of every kind on one server. `url` is the server's, `receiver` takes callbacks."""

    def __init__(self, session: aiohttp.ClientSession, url: str, receiver: str, chance: random.Random) -> None:
        self._session, self._url, self._receiver, self._chance = session, url, receiver, chance
        self.operations = 0

    async def round(self, count: int) -> None:
        kinds: tuple[Callable[[], Awaitable[object]], ...] = (
            self._pages, self._wait, self._job, self._stream, self._socket, self._callback, self._cancelled, self._user,
            self._refused, self._hang_up,
        )  # fmt: skip

        async def client(share: int) -> None:
            for _ in range(share):
                await self._chance.choice(kinds)()
                self.operations += 1

        await asyncio.gather(*(client(count // AT_ONCE) for _ in range(AT_ONCE)))

    async def run(self, task: str, **options: Any) -> dict[str, Any]:
        """Have a job run, and wait for its end."""
        document = {"task": task, **options}
        async with self._session.post("/jobs", json=document, headers={"Prefer": "respond-async, wait=30"}) as response:
            return dict(await response.json())

    async def _get(self, path: str, **headers: str) -> Any:
        async with self._session.get(path, headers=headers) as response:
            assert response.status < 400, (path, response.status)
            return await response.read()

    async def _pages(self) -> None:
        await self._get(
            self._chance.choice(("/", "/docs", "/openapi.json", "/problems/", "/health/live", "/tasks", "/jobs"))
        )

    async def _wait(self) -> None:
        await self._get(self._chance.choice(("/test", "/get")))

    async def _job(self) -> None:
        job = await self.run("noted", args={"tag": "x" * self._chance.choice((1, 20_000))})
        await self._get(f"/jobs/{job['id']}/result")

    async def _stream(self) -> None:
        assert b"event: succeeded" in await self._get("/test", Accept="text/event-stream")

    async def _socket(self) -> None:
        async with self._session.post("/start-task") as response:
            job = (await response.json())["job"]["id"]
        async with self._session.ws_connect(f"/jobs/{job}/ws") as watched:
            async for _ in watched:
                pass

    async def _callback(self) -> None:
        await self.run("noted", args={"tag": "called back"}, callback_url=self._receiver)

    async def _cancelled(self) -> None:
        async with self._session.post("/jobs", json={"task": "noted", "args": {"tag": "c", "seconds": 60}}) as response:
            job = (await response.json())["id"]
        async with self._session.delete(f"/jobs/{job}") as response:
            assert response.status in (202, 204)

    async def _user(self) -> None:
        email = f"{time.monotonic_ns()}.{self._chance.random()}@example.com"
        async with self._session.post("/add-user", json={"name": "a", "email": email}) as response:
            user = (await response.json())["user"]["id"]
        async with self._session.delete(f"/user/{user}") as response:
            assert response.status == 204

    async def _refused(self) -> None:
        bad: tuple[dict[str, Any], ...] = (
            {"data": b"{"},
            {"json": {"task": "unknown"}},
            {"json": [1]},
            {"data": b"x" * 9000},
        )
        async with self._session.post("/jobs", **self._chance.choice(bad)) as response:
            assert 400 <= response.status < 500

    async def _hang_up(self) -> None:
        host, port = self._url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /gather HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """Takes every callback."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def measure(load: Load, process: psutil.Process, rest: Measured | None = None) -> Measured:
    """What the server uses once it is about as idle as it was at `rest`, or does not become so."""
    ends = time.monotonic() + SETTLING
    while True:
        tasks = (await load.run("count-tasks"))["result"]
        now: Measured = {
            "operations": load.operations,
            "memory": process.memory_full_info().uss,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "tasks": tasks,
        }
        if rest is None or time.monotonic() > ends:
            return now
        if now["tasks"] <= rest["tasks"] + 3 and now["descriptors"] <= rest["descriptors"] + 10:
            return now
        await asyncio.sleep(0.5)


async def load_and_measure(url: str, pid: int, more: Callable[[int], bool], count: int) -> tuple[Measured, Measured]:
    """What a thousand operations cost, measured over rounds for as long as there is `more`; and a thousand that leak."""
    process = psutil.Process(pid)
    # Connections are closed well before the server would close them, so that no request is lost on one.
    connections = aiohttp.TCPConnector(keepalive_timeout=0.3)
    async with aiohttp.ClientSession(url, connector=connections) as session, receiver() as takes:
        load = Load(session, url, takes, random.Random(1))  # noqa: S311
        rest = await measure(load, process)
        await load.round(WARMING_UP)
        measured: list[Measured] = []
        while more(len(measured)):
            await load.round(count)
            measured.append(await measure(load, process, rest))
        after_warming_up = measured[len(measured) // 4 :]  # of a long load, whose first minutes fill more
        leaking = measured[-1:]
        for _ in range(3):
            for _ in range(10):
                await load.run("leak")
                load.operations += 1
            leaking.append(await measure(load, process))
        return growth(after_warming_up), growth(leaking)


def grows_by_nothing(start: Start, more: Callable[[int], bool], count: int, bounds: Measured) -> None:
    server = start(
        QAA_TASKS="tests.faults.tasks",
        PYTHONPATH=str(CHECKOUT),
        QAA_CALLBACK_ALLOW_PRIVATE="1",
        QAA_HEADER_TIMEOUT="10",
        QAA_RESULT_TTL="60",
        QAA_TOMBSTONE_TTL="60",
    )
    grown, leaked = asyncio.run(load_and_measure(server.url, server.pid, more, count))
    assert {name: grown[name] for name in bounds if grown[name] > bounds[name]} == {}, grown
    assert {name for name in bounds if leaked[name] > bounds[name]} == set(bounds), leaked
    assert server.stop(signal.SIGTERM) == 0, server.log


def test_a_slope_is_that_of_the_line() -> None:
    assert slope((1, 2, 3), (5, 7, 9)) == pytest.approx(2)
    assert slope((0, 1, 2, 3), (1, 1, 1, 1)) == 0


def test_a_few_hundred_operations_of_every_kind_leave_nothing_behind(start: Start) -> None:
    grows_by_nothing(start, lambda rounds: rounds < 3, 140, SHORT_BOUNDS)


@pytest.mark.soak
@pytest.mark.timeout(1000)
def test_ten_minutes_of_operations_of_every_kind_leave_nothing_behind(start: Start) -> None:
    ends = time.monotonic() + 600
    grows_by_nothing(start, lambda _: time.monotonic() < ends, 2000, LONG_BOUNDS)
