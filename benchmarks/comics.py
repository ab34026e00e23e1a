"""Part `comics`: many comics from an upstream that takes 50 ms for each, beside the slowest of single calls.

The upstream runs on the other core, so that only the client is measured.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from time import perf_counter

import aiohttp

from quart_async_api.demo import start_in_thread
from quart_async_api.settings import Settings
from quart_async_api.upstream.client import UpstreamClient
from quart_async_api.upstream.comics import ComicCatalogue

from .figures import Part
from .machine import LOAD_CORE, ROOT, SERVER_CORE, Guard, on_core

LATENCY = 0.05
SINGLES = 20
COUNTS = (500, 5)
OURS, PLAIN, SEQUENTIAL = "ours, all at once", "plain aiohttp, all at once", "one after another (estimate)"
SLOWEST = "× the slowest of single calls"


def row(count: int) -> str:
    return f"{count} comics"


def measure(rounds: int = 5, counts: tuple[int, ...] = COUNTS, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "comics",
        "Comics",
        f"An upstream that takes {LATENCY * 1000:.0f} ms for each, in a process on the other core. Nothing is in the cache. "
        f"The slowest of {SINGLES} single calls is the measure of each of {rounds} rounds.",
        settings={
            OURS: "the service's client and catalogue, with default settings",
            PLAIN: "`aiohttp.ClientSession` without a limit of connections, nothing checked or cached",
        },
        limits=[PLAIN],
    )
    guard = Guard(rounds)
    part.rows = {row(count): {OURS: {}, PLAIN: {}, SEQUENTIAL: {}} for count in counts}
    with _upstream() as url, on_core(SERVER_CORE):
        asyncio.run(_round(url, 20))  # loads what is loaded at the first call
        for _ in range(rounds):
            for count in counts:
                for name, measures in guard.quiet(lambda count=count: asyncio.run(_round(url, count))).items():  # type: ignore[misc]
                    for measure_name, value in measures.items():
                        part.rows[row(count)][name].setdefault(measure_name, []).append(value)
    for count in counts:
        say(f"{row(count)}: {part.rows[row(count)][OURS]}")
    return part.finish(guard)


async def _round(url: str, count: int) -> dict[str, dict[str, float]]:
    numbers = range(1000, 1000 + count)  # comic 404 does not exist
    async with (
        UpstreamClient(Settings()) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as plain,
    ):

        async def single(num: int) -> None:
            await ComicCatalogue(client, url).comic(num)  # a new catalogue has nothing in its cache

        async def together() -> None:
            catalogue = ComicCatalogue(client, url)
            await asyncio.gather(*(catalogue.comic(num) for num in numbers))

        async def fetch(num: int) -> None:
            async with plain.get(f"{url}/{num}/info.0.json") as response:
                await response.json()

        async def plain_together() -> None:
            await asyncio.gather(*(fetch(num) for num in numbers))

        singles = [await _seconds(lambda num=num: single(num)) for num in range(1, SINGLES + 1)]  # type: ignore[misc]
        slowest = max(singles)
        found = {
            OURS: await _seconds(together),
            PLAIN: await _seconds(plain_together),
            SEQUENTIAL: median(singles) * count,
        }
        return {name: {SLOWEST: seconds / slowest, "ms": seconds * 1000} for name, seconds in found.items()}


async def _seconds(call: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await call()
    return perf_counter() - started


@contextlib.contextmanager
def _upstream() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.comics"]
    with on_core(LOAD_CORE):
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
        process.communicate()  # its input ends, and so does it


if __name__ == "__main__":
    sys.stdout.write(f"{start_in_thread(latency=LATENCY).url}\n")
    sys.stdout.flush()
    sys.stdin.read()
