"""A site on loopback with good links and bad ones, and the service with the link checker's tasks."""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from link_checker.app import make_app
from quart import Quart
from quart.typing import TestClientProtocol as Client

from quart_async_api import Settings
from quart_async_api.db.migration import upgrade

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


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the test runs, away from the developer's settings."""
    for name in list(os.environ):
        if name.startswith("QAA_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all migrations, for each test to copy."""
    file = tmp_path_factory.mktemp("migrated") / "app.db"
    asyncio.run(upgrade(f"sqlite://{file}"))
    return file


@pytest.fixture
async def app(folder: Path, migrated: Path) -> AsyncIterator[Quart]:
    url = f"sqlite://{shutil.copy(migrated, folder / 'app.db')}"
    service = make_app(Settings(database_url=url, drain_seconds=1))
    async with service.test_app():
        yield service


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client()
