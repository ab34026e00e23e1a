"""A hundred comics from an upstream that takes 50 ms for each must take at most 4 times the slowest single one.

The upstream runs in another process, so that only the client is measured. Writes fanout.json and fanout.svg to build/bench.
"""

import asyncio
import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx

from quart_async_api.demo import start_in_thread
from quart_async_api.settings import Settings
from quart_async_api.upstream.client import UpstreamClient
from quart_async_api.upstream.comics import ComicCatalogue

COMICS = 100
ROUNDS = 7
LATENCY = 0.05
ALLOWED = 4.0
RESULTS = Path(__file__).parents[1] / "build" / "bench"


@contextlib.contextmanager
def upstream_process() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, __file__, "--upstream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
        process.communicate()  # its input ends, and so does it


def serve_upstream() -> None:
    print(start_in_thread(latency=LATENCY).url, flush=True)
    sys.stdin.read()


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await call()
    return perf_counter() - started


async def measure(url: str) -> dict[str, float]:
    """Medians in seconds."""
    numbers = range(1, COMICS + 1)
    async with UpstreamClient(Settings()) as client, httpx.AsyncClient(trust_env=False, timeout=30) as plain:

        async def fetch(num: int) -> None:
            await ComicCatalogue(client, url).comic(num)  # a new catalogue has nothing in its cache

        async def together() -> None:
            catalogue = ComicCatalogue(client, url)
            await asyncio.gather(*(catalogue.comic(num) for num in numbers))

        async def plain_together() -> None:
            await asyncio.gather(*(plain.get(f"{url}/{num}/info.0.json") for num in numbers))

        for warm_up in (together, plain_together):
            await warm_up()
        singles = [await seconds(lambda num=num: fetch(num)) for num in range(1, 21)]  # type: ignore[misc]
        return {
            "slowest": max(singles),
            "together": median([await seconds(together) for _ in range(ROUNDS)]),
            "sequential": median(singles) * COMICS,
            "plain httpx": median([await seconds(plain_together) for _ in range(ROUNDS)]),
        }


def plot(ratios: dict[str, float]) -> str:
    """Horizontal bars of how many times the slowest single comic each way takes; a line where the promise ends."""
    longest = max(ratios.values())
    width = 480
    bars = []
    for row, (name, ratio) in enumerate(ratios.items()):
        y = 40 + row * 36
        length = max(2.0, width * ratio / longest)
        bars.append(
            f'<text x="190" y="{y + 17}" text-anchor="end">{name}</text>'
            f'<rect x="200" y="{y}" width="{length:.0f}" height="24" rx="3" fill="{"#2a9d8f" if row == 0 else "#b8bec7"}"/>'
            f'<text x="{206 + length:.0f}" y="{y + 17}">{ratio:.1f}</text>'
        )
    height = 56 + len(ratios) * 36
    limit = 200 + width * ALLOWED / longest
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {height}" font-family="sans-serif" font-size="14">'
        f'<rect width="740" height="{height}" fill="#fff"/>'
        f'<text x="16" y="24" font-weight="bold">{COMICS} comics: times as long as the slowest single one</text>'
        f"{''.join(bars)}"
        f'<path d="M{limit:.0f} 34 V{height - 12}" stroke="#d62828" stroke-dasharray="4 3"/>'
        f'<text x="{limit + 4:.0f}" y="{height - 4}" fill="#d62828" font-size="11">at most {ALLOWED:.0f}</text></svg>\n'
    )


def main() -> int:
    with upstream_process() as url:
        measured = asyncio.run(measure(url))
    slowest = measured["slowest"]
    ratios = {
        "all at once": measured["together"] / slowest,
        "all at once, plain httpx": measured["plain httpx"] / slowest,
        "one after another (estimate)": measured["sequential"] / slowest,
    }
    print(
        f"{COMICS} comics, {LATENCY * 1000:.0f} ms each, median of {ROUNDS} rounds, Python {platform.python_version()}"
    )
    print(f"{'slowest single comic':30} {slowest * 1000:8.1f} ms")
    for name, ratio in ratios.items():
        print(f"{name:30} {ratio * slowest * 1000:8.1f} ms {ratio:7.2f} x")
    RESULTS.mkdir(parents=True, exist_ok=True)
    document = {
        "python": platform.python_version(),
        "comics": COMICS,
        "allowed": ALLOWED,
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
    }
    (RESULTS / "fanout.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / "fanout.svg").write_text(plot(ratios))
    return int(ratios["all at once"] > ALLOWED)


if __name__ == "__main__":
    if "--upstream" in sys.argv:
        serve_upstream()
    else:
        sys.exit(main())
