"""Part `callbacks`: callbacks a second, and from the end of a job to its target, with and without dead targets.

50 targets in a process of their own, then the same with five of them dead: three accept and never answer, two refuse.
First many callbacks that are all due at once, then no-op jobs at a steady pace.
"""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import cast

import uvloop

from quart_async_api import Settings, create_app
from quart_async_api.callbacks.outbox import TERMINAL_TYPES, CallbackOutbox
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import timestamp
from quart_async_api.services.submissions import Callback, Options

from . import tasks
from .figures import Part
from .machine import LOAD_CORE, ROOT, SERVER_CORE, Guard, on_core
from .rounds import Turn, alternate
from .servers import make_databases

TARGETS = 50
SILENT, REFUSING = 3, 2
BURST = 5_000
PACE = 100  # jobs a second
STEADY = 5  # seconds of it
ALIVE, DEAD = f"ours, {TARGETS} living", f"ours, {TARGETS - SILENT - REFUSING} living, {SILENT + REFUSING} dead"
AT_ONCE, STEADILY = "all due at once", "steadily"


class Living(asyncio.Protocol):
    """Answers each POST with 204 and notes when it came, and when what it tells of happened."""

    _LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
    _MOMENT = re.compile(rb'"timestamp":"([^"]+)"')
    came: list[tuple[float, str]] = []  # noqa: RUF012  of all of them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = cast("asyncio.WriteTransport", transport), b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        start = self._data.find(b"\r\n\r\n") + 4
        length = self._LENGTH.search(self._data, 0, start)
        if length and len(self._data) >= start + int(length[1]):  # no request comes before the answer to that before it
            moment = self._MOMENT.search(self._data, start)
            assert moment
            self.came.append((time.time(), moment[1].decode()))
            self._data = b""
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def serve_targets(dead: bool) -> None:
    """Print the URLs of the living and of the dead targets; then, for each number read, so many arrivals once they came."""
    loop = asyncio.get_running_loop()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(TARGETS - REFUSING * dead)]
    silent = listeners[: SILENT * dead]  # the kernel accepts
    for listener in listeners[len(silent) :]:
        await loop.create_server(Living, sock=listener)
    refusing = [socket.socket() for _ in range(REFUSING * dead)]
    for closed in refusing:
        closed.bind(("127.0.0.1", 0))  # and does not listen
    ports = [[one.getsockname()[1] for one in some] for some in (listeners[len(silent) :], [*silent, *refusing])]
    print(json.dumps([[f"http://127.0.0.1:{port}/" for port in some] for some in ports]), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        while len(Living.came) < int(line):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        print(json.dumps(Living.came), flush=True)
        Living.came.clear()


@dataclass(frozen=True, slots=True)
class Targets:
    living: list[str]
    dead: list[str]
    process: "subprocess.Popen[str]"

    @property
    def urls(self) -> list[str]:
        return self.living + self.dead

    async def arrivals(self, count: int) -> list[tuple[float, float]]:
        """When each of `count` callbacks arrived, and when it happened, in seconds, once all have."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        came = json.loads(await asyncio.to_thread(self.process.stdout.readline))
        assert len(came) == count
        return [(arrived, datetime.fromisoformat(happened).timestamp()) for arrived, happened in came]


@contextlib.contextmanager
def targets(dead: bool) -> Iterator[Targets]:
    command = [sys.executable, "-m", "benchmarks.callbacks", *(["--dead"] if dead else [])]
    with on_core(LOAD_CORE):
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        living, unreachable = json.loads(process.stdout.readline())
        yield Targets(living, unreachable, process)
        process.communicate()  # its input ends, and so does it


def figures(elapsed: float, waits: list[float]) -> dict[str, float]:
    return {
        "ms, p99": quantiles(waits, n=100)[98] * 1000,
        "ms, median": median(waits) * 1000,
        "callbacks/s": len(waits) / elapsed,
    }


async def burst(settings: Settings, there: Targets) -> dict[str, float]:
    """Callbacks that a process finds when it starts: it has nothing else to do."""
    await fill(settings, there.urls)
    app = create_app(settings)
    async with app.test_app():
        began = time.time()
        came = await there.arrivals(BURST * len(there.living) // TARGETS)
    waits = [arrived - began for arrived, _ in came]
    return figures(max(waits), waits)


async def fill(settings: Settings, urls: list[str]) -> None:
    outbox, database = CallbackOutbox(settings), Database(settings.database_url)
    await database.start()
    with database.bind():
        commits, now = GroupCommit(database), timestamp(datetime.now(UTC))
        jobs = [
            JobRecord(
                id=new_id(),
                task="noop",
                status=Status.SUCCEEDED,
                args="{}",
                urgency=0,
                max_attempts=1,
                timeout=None,
                created_at=now,
                run_at=now,
                result="null",
                callback_url=urls[number % TARGETS],
                callback_events=",".join(TERMINAL_TYPES),
            )
            for number in range(BURST)
        ]
        await asyncio.gather(*(commits.run(lambda job=job: outbox.tell(job, "succeeded", now)) for job in jobs))  # type: ignore[misc]
    await database.stop()


async def steady(settings: Settings, there: Targets) -> dict[str, float]:
    """Callbacks of jobs that run in the same process, at a pace that it can keep."""
    app = create_app(settings, tasks=[tasks])
    async with app.test_app():
        service, began, count = app.service, time.monotonic(), PACE * STEADY
        for number in range(count):
            options = Options(callback=Callback(there.urls[number % TARGETS], TERMINAL_TYPES))
            await asyncio.sleep(began + number / PACE - time.monotonic())
            await service.submissions.submit(tasks.noop, tasks.noop.arguments(), options)
        came = await there.arrivals(count * len(there.living) // TARGETS)
    waits = [arrived - happened for arrived, happened in came]
    return figures(max(arrived for arrived, _ in came) - min(arrived for arrived, _ in came), waits)


async def _turn(
    kind: Callable[[Settings, Targets], Awaitable[dict[str, float]]], template: Path, dead: bool
) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=template.parent) as folder:
        file = shutil.copy(template, folder)
        settings = Settings(database_url=f"sqlite://{file}", callback_allow_private=True, drain_seconds=0)
        with targets(dead) as there:
            return await kind(settings, there)


def measure(rounds: int = 5, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "callbacks",
        "Callbacks",
        f"{TARGETS} targets in a process on the other core. Of the dead ones, {SILENT} accept and never answer, {REFUSING} "
        f"refuse. {BURST:,} callbacks that are all due at once, then {PACE} jobs a second for {STEADY} s; {rounds} rounds. "
        "The times are from when a callback was due until it arrived at a living target.",
        base=ALIVE,
        settings={ALIVE: "all targets answer 204", DEAD: "the same, five of them dead"},
    )
    guard = Guard(4)
    logging.basicConfig(level=logging.WARNING)  # else the app would log each job
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, on_core(SERVER_CORE):
        make_databases(Path(name), 0)
        for row, kind in {AT_ONCE: burst, STEADILY: steady}.items():
            turns: dict[str, Turn] = {
                contender: lambda kind=kind, dead=contender == DEAD: uvloop.run(
                    _turn(kind, Path(name) / "ours.db", dead)
                )  # type: ignore[misc]
                for contender in (ALIVE, DEAD)
            }
            part.rows[row] = alternate(turns, rounds, guard, part.missing)
            for contender, found in part.rows[row].items():
                say(
                    f"{row:16}{contender:28}"
                    + "".join(f"{median(values):12,.2f} {unit}" for unit, values in found.items())
                )
    return part.finish(guard)


if __name__ == "__main__":
    uvloop.run(serve_targets("--dead" in sys.argv))
