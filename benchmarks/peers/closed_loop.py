"""Callers in a closed loop: each submits its next job when its last is done. Shared by all job queues, ours included.

The benchmark writes a line `CALLERS SECONDS` for each turn, and reads one line of JSON: the measures of that turn.
"""

import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from statistics import median, quantiles
from time import monotonic

Job = Callable[[], Awaitable[float]]


ROLE = os.environ.get("BENCH_ROLE", "both")  # or `caller`, which runs no jobs, or `worker`, which submits none


async def turns(
    job: Job, working: Coroutine[None, None, object] | None = None, commits: Callable[[], int] | None = None
) -> None:
    """`job` submits one, waits until it is done, and returns when it started, by the monotonic clock.

    `working` runs the jobs, if that has to be started. `commits` is the number of commits so far, where that is known.
    """
    gc.set_threshold(50_000, 20, 50)  # as `quart-async-api serve` does for itself; here for each peer
    loop = asyncio.get_running_loop()
    worker = loop.create_task(working) if working and ROLE != "caller" else None
    if ROLE != "worker":
        await callers(job, 1, 0.2)
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count, seconds = line.split()
        before = commits() if commits else 0
        found = await callers(job, int(count), float(seconds))
        if commits:
            found["commits each"] = (commits() - before) / found["jobs"]
        print(json.dumps(found), flush=True)
    if worker and worker.done():
        worker.result()
    sys.stdout.flush()
    os._exit(0)  # no library's shutdown is measured, and some take their time


async def callers(job: Job, count: int, seconds: float) -> dict[str, float]:
    """Jobs a second from submit to done, and milliseconds from submit to start."""
    waits: list[float] = []
    began = monotonic()

    async def caller() -> None:
        while (submitted := monotonic()) < began + seconds:
            waits.append(await job() - submitted)

    await asyncio.gather(*(caller() for _ in range(count)))
    elapsed = monotonic() - began
    return {
        "jobs": len(waits),
        "jobs/s": len(waits) / elapsed,
        "ms to start": median(waits) * 1000,
        "ms to start, p99": (quantiles(waits, n=100)[98] if len(waits) > 1 else waits[0]) * 1000,
    }


class Doorbell:
    """For queues that tell nobody of an end: the function of a job rings for its caller, in whichever process that is.

    A caller is named by the port and the number that `new` returns. In its own process and thread, no datagram is sent.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._last = 0
        self._thread = threading.get_ident()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._port: int = self._socket.getsockname()[1]

    def new(self) -> str:
        loop = asyncio.get_running_loop()
        if not self._last:
            loop.add_reader(self._socket, self._heard)
        self._last += 1
        self._waiting[self._last] = loop.create_future()
        return f"{self._port}.{self._last}"

    def ring(self, name: str) -> None:
        port, _, number = name.partition(".")
        if int(port) == self._port and threading.get_ident() == self._thread:
            self._rung(int(number), monotonic())
        else:
            self._socket.sendto(f"{number} {monotonic()}".encode(), ("127.0.0.1", int(port)))

    async def rung(self, name: str) -> float:
        number = int(name.partition(".")[2])
        try:
            return await self._waiting[number]
        finally:
            del self._waiting[number]

    def _heard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._socket.recv(100):
                number, at = message.split()
                self._rung(int(number), float(at))

    def _rung(self, number: int, at: float) -> None:
        if (waiting := self._waiting.get(number)) and not waiting.done():
            waiting.set_result(at)
