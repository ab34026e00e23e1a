"""Callers in a closed loop: each submits its next job when its last is done. Shared by all job queues, ours included.

The benchmark writes a line `CALLERS SECONDS` for each turn, and reads one line of JSON: the measures of that turn.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from time import monotonic

Job = Callable[[], Awaitable[float]]


async def turns(job: Job, commits: Callable[[], int] | None = None) -> None:
    """`job` submits one, waits until it is done, and returns when it started, by the monotonic clock.

    `commits` is the number of commits so far, where that is known.
    """
    gc.set_threshold(50_000, 20, 50)  # as `quart-async-api serve` does for itself; here for each peer
    loop = asyncio.get_running_loop()
    await callers(job, 1, 0.2)
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count, seconds = line.split()
        before = commits() if commits else 0
        found = await callers(job, int(count), float(seconds))
        if commits:
            found["commits each"] = (commits() - before) / found["jobs"]
        print(json.dumps(found), flush=True)
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
    """For queues that tell nobody of an end: the function of a job rings for its caller, which runs in the same process."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._last = 0

    def new(self) -> int:
        self._last += 1
        self._waiting[self._last] = asyncio.get_running_loop().create_future()
        return self._last

    def ring(self, number: int) -> None:
        self._waiting[number].set_result(monotonic())

    async def rung(self, number: int) -> float:
        try:
            return await self._waiting[number]
        finally:
            del self._waiting[number]
