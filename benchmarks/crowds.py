"""Part `crowds`: 8,000 five-second calls at once, 10,000 idle connections, and 5,000 watchers of one job."""

import asyncio
import json
import re
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import uvloop

from . import http
from .crowd import Crowd, highest_memory
from .figures import Part
from .load import Request, own
from .machine import Guard
from .rounds import Turn, alternate
from .servers import Running, Server, make_databases, started

CALLS, IDLE, WATCHERS = 8_000, 10_000, 5_000
WAITING, KEPT, WATCHED = f"{CALLS:,} five-second calls at once", f"{IDLE:,} idle connections", f"{WATCHERS:,} watchers"
_EVENTS, _PAUSE = 3, 2.0  # that each watcher is timed for, seconds apart
_PATIENCE = 300.0
_STAMP = re.compile(rb"sent at (\d+\.\d+)")
_SETTINGS = {"QAA_TASKS": "benchmarks.tasks", "QAA_HEADER_TIMEOUT": "600"}

_OURS, _FASTAPI = (next(one for one in http.SERVERS if one.name == name) for name in (http.OURS, http.FASTAPI))
_QUART = next(one for one in http.SERVERS if one.name == http.QUART_HYPERCORN)
_OURS = replace(_OURS, environ=_OURS.environ | _SETTINGS)
_FASTAPI = replace(_FASTAPI, command=(*_FASTAPI.command, "--timeout-keep-alive", "600"))
_QUART = replace(_QUART, command=(*_QUART.command, "--keep-alive", "600"))
SERVERS = (_OURS, _FASTAPI, _QUART)


def measure(
    rounds: int = 5,
    scale: float = 1,
    servers: tuple[Server, ...] = SERVERS,
    say: Callable[[str], None] = print,
) -> Part:
    """`scale` makes the crowds smaller."""
    part = Part(
        "crowds",
        "Crowds",
        f"A new server for each round, {rounds} rounds; memory is resident memory at its highest, less that before the crowd. "
        "The clients are one process on the other core: what they take for an answer or an event is in the times.",
        base=http.FASTAPI,
        settings={server.name: server.shown for server in servers}
        | {"all": "idle connections are kept for 600 s, by the setting of each server"},
    )  # fmt: skip
    guard = Guard(4)
    rows: dict[str, Callable[[Running], Any]] = {
        WAITING: partial(waiting, count=int(CALLS * scale)),
        KEPT: partial(idle, count=int(IDLE * scale)),
        WATCHED: partial(watching, count=int(WATCHERS * scale)),
    }
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        make_databases(Path(name))
        for row, crowd in rows.items():
            there = servers if row != WATCHED else [server for server in servers if server.kind == "ours"]
            turns: dict[str, Turn] = {server.name: partial(_turn, server, Path(name), crowd) for server in there}
            failed: dict[str, str] = {}
            part.rows[row] = alternate(turns, rounds, guard, failed)
            part.missing |= {f"{contender}, {row}": why for contender, why in failed.items()}
            for contender, found in part.rows[row].items():
                say(
                    f"{row:36}{contender:28}"
                    + "".join(f"{median(values):12,.2f} {unit}" for unit, values in found.items())
                )
    return part.finish(guard)


def _turn(server: Server, folder: Path, crowd: Callable[[Running], Any]) -> dict[str, float]:
    with started(server, folder) as there:
        own(there.port, Request(server.ready), 8, 0.3)  # loads what is loaded at the first request
        found: dict[str, float] = uvloop.run(crowd(there))
        return found


async def waiting(server: Running, count: int) -> dict[str, float]:
    before, cpu, began, highest = server.resident_bytes(), server.cpu_seconds(), monotonic(), list[int]()
    async with Crowd(server, "/test") as crowd, highest_memory(server, highest):
        await crowd.open(count)
        await crowd.until(lambda: crowd.answered == count, _PATIENCE)
        seconds = monotonic() - began
    return {
        "seconds": seconds,
        "kB each": (highest[0] - before) / count / 1024,
        "CPU s per 1,000": (server.cpu_seconds() - cpu) / count * 1000,
    }


async def idle(server: Running, count: int) -> dict[str, float]:
    ours = server.name.startswith("ours")
    path = "/health/live" if ours else "/constant"
    tasks = await _tasks(server) if ours else 0
    before = server.resident_bytes()
    async with Crowd(server, path) as crowd:
        await crowd.open(count)
        await crowd.until(lambda: crowd.answered == count, _PATIENCE)
        found = {"kB each": (server.resident_bytes() - before) / count / 1024}
        if ours:
            found["tasks each"] = (await _tasks(server) - tasks) / count
    return found


async def watching(server: Running, count: int) -> dict[str, float]:
    ticking = {"task": "ticking", "args": {"times": _EVENTS, "pause": _PAUSE}}
    job = await _submit(server, ticking, {"Prefer": "respond-async"})
    before, arrivals, highest = server.resident_bytes(), dict[bytes, tuple[int, float]](), list[int]()

    def received(client: Any) -> None:
        if not client.seen:
            client.seen = True  # the snapshot
            crowd.answered += 1
        lines, _, client.data = client.data.rpartition(b"\n")
        for stamp in _STAMP.findall(lines):
            arrivals[stamp] = arrivals.get(stamp, (0, 0.0))[0] + 1, monotonic()

    def complete() -> list[float]:
        return [last - float(stamp) for stamp, (got, last) in list(arrivals.items()) if got == count]

    async with Crowd(server, f"/jobs/{job['id']}/events", received) as crowd, highest_memory(server, highest):
        await crowd.open(count)
        await crowd.until(lambda: crowd.answered == count, _PATIENCE)
        await _submit(server, {"task": "open_gate"}, {"Prefer": "wait=10"})
        await crowd.until(lambda: len(complete()) >= _EVENTS, _PATIENCE)
    return {"ms to the last": median(complete()) * 1000, "kB each": (highest[0] - before) / count / 1024}


async def _tasks(server: Running) -> int:
    job = await _submit(server, {"task": "count_tasks"}, {"Prefer": "wait=10"})
    return int(job["result"])


async def _submit(server: Running, body: Mapping[str, object], headers: Mapping[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310  a loopback address
        f"{server.url}/jobs", json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )

    def call() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            document: dict[str, Any] = json.load(response)
            return document

    return await asyncio.to_thread(call)
