"""Fake upstreams for `make demo`, the tests and the benchmarks: comics in the form of xkcd, and one JSON API."""

import asyncio
import os
import threading
from collections import Counter
from html import escape
from typing import Self

import click
from aiohttp import web

NEWEST = 3200
_MISSING = 404

_FIRST = (
    "Quiet",
    "Concurrent",
    "Lazy",
    "Unlikely",
    "Distributed",
    "Optimistic",
    "Recursive",
    "Stubborn",
    "Polite",
    "Late",
)
_SECOND = ("Loop", "Teapot", "Cable", "Penguin", "Deadline", "Semaphore", "Sandwich", "Handshake", "Coroutine", "Map")
_LINES = ("Are we waiting?", "Only for you.", "All at once?", "One by one…", "It was DNS.", "await me!", "Retry later.")


class StandIn:
    """Serves on 127.0.0.1 while it is entered, and responds after `latency` seconds.

    `calls` counts requests by path. `most_at_once` is the highest number of concurrent requests.
    """

    def __init__(self, port: int = 0, latency: float = 0.05, newest: int = NEWEST) -> None:
        self.port = port
        self.latency = latency
        self.newest = newest
        self.calls: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0

    @property
    def url(self) -> str:
        """Base URL of the comics, known after entering."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def external_api_url(self) -> str:
        """URL of the JSON document."""
        return f"{self.url}/api"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._counted)
        # A shutdown timeout of 0 would mean none.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _counted(self, request: web.Request) -> web.StreamResponse:
        self.calls[request.path] += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.latency)
            return await self.answer(request)
        finally:
            self._at_once -= 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Return the response to a request. Subclasses override it to misbehave."""
        match request.path.strip("/").removesuffix(".svg").split("/"):
            case ["api"]:
                return web.json_response({"id": 1, "title": "A document of the fake upstream", "completed": True})
            case ["info.0.json"]:
                return web.json_response(self.comic(self.newest))
            case [number, "info.0.json"] if self._exists(number):
                return web.json_response(self.comic(int(number)))
            case ["comics", number] if self._exists(number):
                return web.Response(text=picture(int(number)), content_type="image/svg+xml")
            case [number] if self._exists(number):
                return web.Response(text=self._page(int(number)), content_type="text/html")
            case _:
                return web.Response(status=404, text="404: not found")

    def comic(self, num: int) -> dict[str, object]:
        """The JSON document of a comic, with all the members that xkcd sends."""
        day = num * 2 % 28 + 1
        return {
            "month": str(num % 12 + 1),
            "num": num,
            "link": "",
            "year": str(2006 + num // 157),
            "news": "",
            "safe_title": title(num),
            "transcript": "",
            "alt": f"Reason {num % 100 or 100} of 100 to wait for everything at once.",
            "img": f"{self.url}/comics/{num}.svg",
            "title": title(num),
            "day": str(day),
        }

    def _exists(self, number: str) -> bool:
        return number.isascii() and number.isdigit() and 1 <= int(number) <= self.newest and int(number) != _MISSING

    def _page(self, num: int) -> str:
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title(num))}</title>'
            f'<h1>{escape(title(num))}</h1><img src="/comics/{num}.svg" alt="Comic {num}">'
        )


def title(num: int) -> str:
    """Return the title of a number, the same each time."""
    return f"{_FIRST[num * 7 % len(_FIRST)]} {_SECOND[num // 10 * 3 % len(_SECOND)]}"


def picture(num: int) -> str:
    """An SVG of 480 x 320: two figures who talk, below a sun, in colours and places of the number's own."""
    hue = num * 47 % 360
    sun = 60 + num * 37 % 360
    hill = 200 + num * 13 % 40
    figures = "".join(_figure(x, 40 + num * (x + 3) % 50) for x in (150, 330))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 320" width="480" height="320">
<rect width="480" height="320" fill="hsl({hue} 70% 92%)"/>
<circle cx="{sun}" cy="{70 + num * 11 % 40}" r="{22 + num % 12}" fill="hsl({(hue + 40) % 360} 90% 70%)"/>
<path d="M0 {hill} Q120 {hill - 60} 240 {hill} T480 {hill} V320 H0 Z" fill="hsl({(hue + 120) % 360} 40% 72%)"/>
<g fill="none" stroke="#222" stroke-width="3" stroke-linecap="round">{figures}</g>
<g font-family="sans-serif" fill="#222" text-anchor="middle">
<text x="150" y="150" font-size="15">{_LINES[num % len(_LINES)]}</text>
<text x="330" y="130" font-size="15">{_LINES[num * 3 // 2 % len(_LINES)]}</text>
<text x="240" y="34" font-size="20" font-weight="bold">{num}: {escape(title(num))}</text>
</g>
</svg>
"""


def _figure(x: int, swing: int) -> str:
    return (
        f'<circle cx="{x}" cy="190" r="16"/><path d="M{x} 206 V260 M{x} 260 l-18 40 M{x} 260 l18 40 '
        f'M{x} 222 l-24 {swing - 40} M{x} 222 l24 {30 - swing // 2}"/>'
    )


def start_in_thread(latency: float = 0.05) -> StandIn:
    """Start the fake upstreams in a daemon thread with its own event loop."""
    upstream = StandIn(latency=latency)
    ready = threading.Event()

    async def serve() -> None:
        async with upstream:
            ready.set()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), name="fake upstream", daemon=True).start()
    if not ready.wait(timeout=10):
        raise RuntimeError("The fake upstream did not start.")
    return upstream


@click.command()
@click.option(
    "--bind", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT", help="Where the service listens."
)
@click.option("--latency", default=0.3, show_default=True, help="Seconds that each answer takes.")
def main(bind: str, latency: float) -> None:
    """Serve with fake upstreams: needs no internet."""
    from .commands.main import main as command_line

    upstream = start_in_thread(latency)
    os.environ["QAA_COMIC_BASE_URL"] = upstream.url
    os.environ["QAA_EXTERNAL_API_URL"] = upstream.external_api_url
    command_line(["serve", "--bind", bind])


if __name__ == "__main__":
    main()
