"""A target of callbacks: a raw server on loopback that answers as a test says, and keeps what it was sent."""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from standardwebhooks import Webhook

PATIENCE = 60.0

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(eq=False)
class Sent:
    """One request, with when it came and when its answer had been given."""

    path: str
    headers: dict[str, str]
    body: bytes
    began: float
    ended: float = 0.0

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def job(self) -> str:
        return str(self.event["data"]["id"])

    def verify(self, secret: str) -> None:
        """By a library that is not ours."""
        Webhook(secret).verify(self.body.decode(), self.headers)


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    lines = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return raw(head.encode("latin-1") + b"\r\n" + body)


def raw(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


OK = answering(200)
_ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"


async def hang(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection instead of an answer."""
    writer.close()


async def hang_in_the_middle(writer: asyncio.StreamWriter) -> None:
    """Begin an answer's head, and never end it."""
    await raw(b"HTTP/1.1 200 OK\r\nx-begun: ")(writer)
    await hang(writer)


def hang_in_the_body(status: int) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        await raw(f"HTTP/1.1 {status} Whatever\r\ncontent-length: 100\r\n\r\nbegun".encode())(writer)
        await hang(writer)

    return answer


async def endless(writer: asyncio.StreamWriter) -> None:
    """Send a body as fast as it is taken, for ever."""
    writer.write(_ENDLESS)
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Send a byte of a body now and then, for ever."""
    writer.write(_ENDLESS)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


def when(gate: asyncio.Event, answer: Answer = OK) -> Answer:
    """Answer when the gate is opened."""

    async def answering_then(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await answer(writer)

    return answering_then


class Receiver:
    """Serves on 127.0.0.1 as long as it is entered.

    Takes its answers from `script`, then from `paths`, then gives `otherwise`. `connections` counts those that were made,
    `most_at_once` the requests that were in the house together.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, name: str = "127.0.0.1", port: int = 0) -> None:
        self.script: list[Answer] = []
        self.paths: dict[str, Answer] = {}
        self.otherwise: Answer = OK
        self.sent: list[Sent] = []
        self.connections = 0
        self.most_at_once = 0
        self.port = port
        self._name = name
        self._tls = tls
        self._changed = asyncio.Condition()
        self._at_once = 0
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self._name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/hook"

    @property
    def ids(self) -> list[str]:
        return [sent.id for sent in self.sent]

    @property
    def jobs(self) -> list[str]:
        return [sent.job for sent in self.sent]

    async def got(self, number: int) -> list[Sent]:
        """The requests, when there are so many."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.sent) >= number)
        return self.sent

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)  # a connection that was just accepted has no handler yet
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.create_task(self._handle(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        handler.add_done_callback(
            lambda _: writer.close()
        )  # a handler that is cancelled before it begins closes nothing

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                await self._take(await _read(reader), reader, writer)

    async def _take(self, sent: Sent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self.script.pop(0) if self.script else self.paths.get(sent.path, self.otherwise)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        left = asyncio.create_task(reader.read(1))  # who is answered sends nothing more until then: it has gone
        answered = asyncio.ensure_future(answer(writer))
        try:
            async with self._changed:
                self.sent.append(sent)
                self._changed.notify_all()
            await asyncio.wait((left, answered), return_when=asyncio.FIRST_COMPLETED)
            if left.done() and not answered.done():
                writer.close()
        finally:
            for task in (left, answered):
                task.cancel()
            await asyncio.gather(left, answered, return_exceptions=True)
            self._at_once -= 1
            sent.ended = time.monotonic()


async def _read(reader: asyncio.StreamReader) -> Sent:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    assert method == "POST"
    return Sent(path, headers, await reader.readexactly(int(headers["content-length"])), time.monotonic())
