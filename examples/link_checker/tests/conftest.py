"""A site on loopback with good links and bad ones, and the app under test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from link_checker.app import make_app

from quart_async_api import App, Settings

PAGE = """<!doctype html><title>A site</title><a href="/good">good</a> <a href="/good#part">the same</a>
<a href="missing.html">missing</a> <a href="mailto:ada@example.com">mail</a> <img src="/cut-off"> <a href="http://[">odd</a>"""


@dataclass
class Site:
    """`calls` counts requests by path; `/cut-off` hangs up without an answer as long as `hangs_up` is set."""

    url: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    hangs_up: bool = True

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls[request.path] += 1
        match request.path:
            case "/":
                return web.Response(text=PAGE, content_type="text/html")
            case "/many":
                links = "".join(f'<a href="/slow/{number}">{number}</a>' for number in range(30))
                return web.Response(text=links, content_type="text/html")
            case "/cut-off" if self.hangs_up:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case path if path.startswith("/slow/"):
                at_once = sum(self.calls[f"/slow/{number}"] for number in range(30)) - self.calls["slow done"]
                self.most_at_once = max(self.most_at_once, at_once)
                await asyncio.sleep(0.02)
                self.calls["slow done"] += 1
                return web.Response(text="slow")
            case "/good" | "/cut-off":
                return web.Response(text="good")
            case _:
                return web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    served = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
def qaa_make_app() -> Callable[[Settings], App]:
    """The app of the fixture `qaa_service`."""
    return make_app
