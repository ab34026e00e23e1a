"""What a callback costs, and whether dead targets delay the living: callbacks a second, and from the job's end to its target.

50 targets in a process of their own, then the same with five of them dead: three accept and never answer, two refuse.
First 10,000 callbacks that are all due at once, then no-op jobs at a steady pace. Writes callbacks.json and callbacks.svg
to build/bench. Fails where the living targets' p99 moves by more than a fifth.
"""

import asyncio
import contextlib
import json
import logging
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import cast

import uvloop

from quart_async_api import Settings, TaskContext, create_app, task
from quart_async_api.callbacks.outbox import TERMINAL_TYPES, CallbackOutbox
from quart_async_api.callbacks.signature import new_secret
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.db.migration import upgrade
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import timestamp
from quart_async_api.services.submissions import Callback, Options

TARGETS = 50
SILENT, REFUSING = 3, 2
BURST = 10_000
PACE = 100  # jobs a second
STEADY = 10  # seconds of it
ROUNDS = 3
ALLOWED = 1.2  # of the p99 without dead targets
RESULTS = Path(__file__).parents[1] / "build" / "bench"


@task("noop")
async def noop(ctx: TaskContext) -> None:
    """Do nothing."""


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
    command = [sys.executable, __file__, "--targets", *(["--dead"] if dead else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        living, unreachable = json.loads(process.stdout.readline())
        yield Targets(living, unreachable, process)
        process.communicate()  # its input ends, and so does it


@dataclass(frozen=True, slots=True)
class Figures:
    """Callbacks a second to living targets, and milliseconds from when it was due until it arrived."""

    callbacks_a_second: float
    median_ms: float
    p99_ms: float


def figures(elapsed: float, waits: list[float]) -> Figures:
    return Figures(
        round(len(waits) / elapsed, 1), round(median(waits) * 1000, 2), round(quantiles(waits, n=100)[98] * 1000, 2)
    )


def quietest(rounds: list[Figures]) -> Figures:
    return min(rounds, key=lambda one: one.p99_ms)


async def burst(settings: Settings, there: Targets) -> Figures:
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


async def steady(settings: Settings, there: Targets) -> Figures:
    """Callbacks of jobs that run in the same process, at a pace that it can keep."""
    app = create_app(settings, tasks=[sys.modules[__name__]])
    async with app.test_app():
        service, began, count = app.service, time.monotonic(), PACE * STEADY
        for number in range(count):
            options = Options(callback=Callback(there.urls[number % TARGETS], TERMINAL_TYPES))
            await asyncio.sleep(began + number / PACE - time.monotonic())
            await service.submissions.submit(noop, noop.arguments(), options)
        came = await there.arrivals(count * len(there.living) // TARGETS)
    waits = [arrived - happened for arrived, happened in came]
    return figures(max(arrived for arrived, _ in came) - min(arrived for arrived, _ in came), waits)


async def measure() -> dict[str, dict[str, Figures]]:
    """By what was measured, without dead targets and with them; rounds take turns, and the quietest of each counts."""
    kinds: dict[str, Callable[[Settings, Targets], Awaitable[Figures]]] = {"all due at once": burst, "steadily": steady}
    measured: dict[str, dict[str, list[Figures]]] = {name: {"none": [], "dead": []} for name in kinds}
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        template = Path(name) / "template.db"
        await upgrade(f"sqlite://{template}")
        with contextlib.closing(sqlite3.connect(template)) as database, database:
            if not database.execute("SELECT 1 FROM webhook_secrets").fetchone():
                values = ("", new_secret(), timestamp(datetime.now(UTC)))
                database.execute("INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES (?, ?, ?)", values)
        for kind, run in kinds.items():
            for number in range(ROUNDS):
                for dead, rounds in measured[kind].items():
                    file = shutil.copy(template, template.with_name(f"{run.__name__}-{number}-{dead}.db"))
                    settings = Settings(database_url=f"sqlite://{file}", callback_allow_private=True, drain_seconds=0)
                    with targets(dead == "dead") as there:
                        rounds.append(await run(settings, there))
    return {kind: {dead: quietest(rounds) for dead, rounds in one.items()} for kind, one in measured.items()}


LABELS = {"none": f"{TARGETS} living", "dead": f"{TARGETS - SILENT - REFUSING} living, {SILENT + REFUSING} dead"}


def plot(measured: dict[str, dict[str, Figures]]) -> str:
    """Bars of the p99 of the living targets, without dead ones and with them."""
    bars, y = [], 48
    for kind, found in measured.items():
        longest = max(one.p99_ms for one in found.values())
        for dead, one in found.items():
            length = 380 * one.p99_ms / longest
            bars.append(
                f'<text x="250" y="{y + 15}" text-anchor="end">{kind}, {LABELS[dead]}</text>'
                f'<rect x="260" y="{y}" width="{length:.0f}" height="20" rx="3" '
                f'fill="{"#b8bec7" if dead == "none" else "#2a9d8f"}"/>'
                f'<text x="{266 + length:.0f}" y="{y + 15}">{one.p99_ms:,.0f} ms, {one.callbacks_a_second:,.0f}/s</text>'
            )
            y += 28
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {y}" font-family="sans-serif" font-size="14">'
        f'<rect width="800" height="{y}" fill="#fff"/>'
        '<text x="16" y="24" font-weight="bold">Callbacks: from due to arrived at a living target, p99</text>'
        f"{''.join(bars)}</svg>\n"
    )


def main() -> int:
    logging.basicConfig(level=logging.WARNING)  # else the app would log each job
    measured = uvloop.run(measure())
    ratios = {kind: round(found["dead"].p99_ms / found["none"].p99_ms, 2) for kind, found in measured.items()}
    print(
        f"{BURST:,} callbacks at once, {PACE}/s for {STEADY} s; quietest of {ROUNDS} rounds, Python {platform.python_version()}"
    )
    print(f"{'':40}{'callbacks/s':>12}{'median':>12}{'p99':>12}{'p99, of none dead':>20}")
    for kind, found in measured.items():
        for dead, one in found.items():
            ratio = f"{ratios[kind]:.2f}" if dead == "dead" else ""
            print(
                f"{kind + ', ' + LABELS[dead]:40}{one.callbacks_a_second:12,.0f}{one.median_ms:9,.1f} ms"
                f"{one.p99_ms:9,.1f} ms{ratio:>20}"
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    document = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "targets": TARGETS,
        "dead": {"silent": SILENT, "refusing": REFUSING},
        "callbacks": {kind: {dead: asdict(one) for dead, one in found.items()} for kind, found in measured.items()},
        "p99_ratios": ratios,
        "allowed": ALLOWED,
    }
    (RESULTS / "callbacks.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / "callbacks.svg").write_text(plot(measured))
    return int(max(ratios.values()) > ALLOWED)


if __name__ == "__main__":
    if "--targets" in sys.argv:
        uvloop.run(serve_targets("--dead" in sys.argv))
    else:
        sys.exit(main())
