"""A receiver of callbacks on loopback, at several origins: it verifies them, notes them, and answers as the test says."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from quart_async_api.callbacks.signature import new_secret
from quart_async_api.client import verify

SECRET = new_secret()


def share_secret(database_file: Path) -> None:
    """Have the service sign with SECRET."""
    with sqlite3.connect(database_file) as database:
        database.execute("DELETE FROM webhook_secrets")
        database.execute(
            "INSERT INTO webhook_secrets (key_id, secret, created_at) VALUES ('', ?, '2026-01-01T00:00:00.000000Z')",
            (SECRET,),
        )
    database.close()


@dataclass(frozen=True, slots=True)
class Seen:
    """One try, as it arrived."""

    message_id: str
    job: str
    body: bytes
    status: int  # that it is answered with


class Receiver:
    """`answer` says how many seconds the next one takes, and with what status; none is answered while `held`."""

    def __init__(self, answer: Callable[[], tuple[float, int]] = lambda: (0, 204), *, origins: int = 1) -> None:
        self._answer = answer
        self._origins = origins
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self.urls: list[str] = []
        self.seen: list[Seen] = []
        self.faults: list[Exception] = []
        self.held = False

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held = False
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(60)
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = web.Application()
        app.router.add_post("/", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        for _ in range(self._origins):
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.urls.append(f"http://127.0.0.1:{runner.addresses[-1][1]}/")
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        seconds, status = self._answer()
        try:
            job = verify(request.headers, body, SECRET)["data"]["id"]
        except Exception as error:
            self.faults.append(error)
            raise
        self.seen.append(Seen(request.headers["webhook-id"], job, body, status))
        await asyncio.sleep(seconds)
        while self.held:  # noqa: ASYNC110 - another thread lets go
            await asyncio.sleep(0.01)
        return web.Response(status=status)
