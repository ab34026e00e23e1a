"""A receiver of callbacks on loopback, which verifies each signature."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ..client import InvalidSignature, Job, verify
from ..service import Service

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Received:
    """One try of a callback, whose signature is good. All tries of a callback have one `id`.

    `answer` is the status that the inbox has answered with.
    """

    id: str
    type: str
    job: Job
    answer: int
    headers: Mapping[str, str] = field(repr=False)
    document: Mapping[str, Any] = field(repr=False)


class Inbox:
    """Receives callbacks at `url`. `received` has all tries so far."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._answers: deque[int] = deque()
        self._new: asyncio.Queue[Received | InvalidSignature] = asyncio.Queue()
        self.received: list[Received] = []
        self.url: str = ""

    def answer(self, *statuses: int) -> None:
        """Answer the following tries with these statuses, and later ones with 204."""
        self._answers.extend(statuses)

    async def next(self) -> Received:
        """Return the next try; wait for it. Raises InvalidSignature, or AssertionError after 30 s."""
        try:
            async with asyncio.timeout(PATIENCE):
                received = await self._new.get()
        except TimeoutError:
            raise AssertionError(f"no callback came within {PATIENCE:g} s") from None
        if isinstance(received, InvalidSignature):
            raise received
        return received

    async def _receive(self, request: web.Request) -> web.Response:
        headers, body = dict(request.headers), await request.read()
        try:
            secrets = await self._secrets(headers.get("webhook-id", ""))
            document = verify(headers, body, secrets, now=lambda: self._service.clock().timestamp())
        except InvalidSignature as error:
            self._new.put_nowait(error)
            return web.Response(status=400)
        answer = self._answers.popleft() if self._answers else 204
        job = Job.parse(document["data"])
        received = Received(headers["webhook-id"], document["type"], job, answer, headers, document)
        self.received.append(received)
        self._new.put_nowait(received)
        return web.Response(status=answer)

    async def _secrets(self, message_id: str) -> list[str]:
        rows = await self._service.database.read(
            "SELECT owner FROM callback_deliveries WHERE message_id = ?", message_id
        )
        if not rows:
            raise InvalidSignature(f"the service has sent no callback {message_id!r}")
        return await self._service.secrets.signing(rows[0]["owner"])


@asynccontextmanager
async def receiving(service: Service) -> AsyncIterator[Inbox]:
    """Serve an inbox of this service on 127.0.0.1."""
    inbox = Inbox(service)
    app = web.Application()
    app.router.add_post("/", inbox._receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        inbox.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield inbox
    finally:
        await runner.cleanup()
