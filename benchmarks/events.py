"""Part `events`: how late a caller of one process sees the progress of a job that runs in another, on PostgreSQL."""

import asyncio
import contextlib
import json
import re
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import monotonic

from quart_async_api import Settings
from quart_async_api.jobs.engines import upgrade
from quart_async_api.settings import JobsEngine

from . import distributed, queues
from .figures import Part
from .machine import Guard
from .rounds import NoFigure, Turn, alternate
from .servers import Running, Server, started

ROW = "progress in a worker, seen at an API process"
EVENTS, PAUSE = 20, 0.3  # of one turn; seconds apart, which is more than those that are joined into one
ENGINES = {distributed.OURS: JobsEngine.DISTRIBUTED, distributed.EMBEDDED: JobsEngine.EMBEDDED}
_STAMP = re.compile(rb"sent at (\d+\.\d+)")
_PATIENCE = 300.0


def measure(rounds: int = 5, events: int = EVENTS, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "events",
        "Events between processes",
        f"A `worker` runs a job that calls `ctx.progress` {events} times, {PAUSE:g} s apart. A client reads its events from a "
        f"`serve --no-jobs`. From the call to the client, with the commit. {rounds} rounds.",
        settings={name: f"QAA_JOBS_ENGINE={engine}, PostgreSQL" for name, engine in ENGINES.items()},
    )
    guard = Guard(rounds)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, contextlib.ExitStack() as stack:
        helper = stack.enter_context(queues.postgresql(Path(name), sys.executable))
        turns: dict[str, Turn] = {}
        for number, (contender, engine) in enumerate(ENGINES.items()):
            url = distributed.database(helper, f"bench_{number}").environ["BENCH_POSTGRESQL"]
            asyncio.run(upgrade(Settings(database_url=url, jobs_engine=engine)))
            turns[contender] = partial(_turn, Path(name), url, engine, events)
        part.rows[ROW] = alternate(turns, rounds, guard, part.missing)
    for contender, found in part.rows[ROW].items():
        say(f"{ROW:46}{contender:20}" + "".join(f"{median(values):8.1f} {unit}" for unit, values in found.items()))
    return part.finish(guard)


def _turn(folder: Path, url: str, engine: JobsEngine, events: int) -> dict[str, float]:
    environ = {"QAA_DATABASE_URL": url, "QAA_JOBS_ENGINE": engine, "QAA_TASKS": "benchmarks.tasks"}
    ready, bind = "/health/live", ("--bind", "127.0.0.1:PORT")
    api = Server("api", "", ("quart_async_api", "serve", "--no-jobs", *bind), "ours", ready, environ)
    worker = Server("worker", "", ("quart_async_api", "worker", *bind), "ours", ready, environ)
    with started(api, folder) as asked, started(worker, folder):
        delays = asyncio.run(_watched(asked, events))
    return {"ms, median": median(delays) * 1000, "ms, p95": quantiles(delays, n=20)[-1] * 1000}


async def _watched(api: Running, events: int) -> list[float]:
    job = await asyncio.to_thread(_submit, api, {"task": "ticking", "args": {"times": events, "pause": PAUSE}})
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(f"GET /jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.to_thread(_submit, api, {"task": "open_gate"})
    delays: list[float] = []
    with contextlib.closing(writer):
        async with asyncio.timeout(_PATIENCE + events * PAUSE):
            while len(delays) < events:
                if not (line := await reader.readline()):
                    raise NoFigure("the stream ended")
                delays += [monotonic() - float(stamp) for stamp in _STAMP.findall(line)]
    return delays


def _submit(api: Running, body: dict[str, object]) -> str:
    request = urllib.request.Request(  # noqa: S310  a loopback address
        f"{api.url}/jobs", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as response:  # noqa: S310
        return str(json.load(response)["id"])
