"""Thousands of connections at once, from several loopback addresses, so that no limit for one address is met."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Self, cast

from .rounds import NoFigure
from .servers import Running

_ADDRESSES = 8
_PATIENCE = 300.0
_AT_ONCE = 200  # connects that wait for their answer; a listener queues some thousand
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class _Client(asyncio.Protocol):
    def __init__(self, crowd: "Crowd") -> None:
        self.data, self.seen = b"", False
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._crowd.transports.append(self._transport)
        self._transport.write(self._crowd.sent)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._crowd.received(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost += 1


class Crowd:
    """Sends the same request once on each connection; `received` looks at a client's data whenever it has more of it."""

    def __init__(self, server: Running, path: str, received: Callable[[_Client], None] | None = None) -> None:
        self.transports: list[asyncio.Transport] = []
        self.lost, self.answered, self.wrong = 0, 0, ""
        self.received = received or self._answer
        self.sent = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: */*\r\n\r\n".encode()
        self._port = server.port

    def _answer(self, client: _Client) -> None:
        end = client.data.find(b"\r\n\r\n") + 4
        if end >= 4 and (length := _LENGTH.search(client.data, 0, end)) and len(client.data) >= end + int(length[1]):
            if client.data[9:12] != b"200":
                self.wrong = client.data[:80].decode("latin-1")
            self.answered += 1
            client.data = b""

    async def open(self, count: int) -> None:
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with places:
                address = f"127.0.0.{1 + number % _ADDRESSES}"
                await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._port, local_addr=(address, 0))

        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*(one(number) for number in range(count)))
        except TimeoutError:
            raise NoFigure(f"{len(self.transports)} of {count} connected within {_PATIENCE:g} s") from None

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Raises NoFigure."""
        end = monotonic() + seconds
        while not done():
            if monotonic() > end or self.lost:
                raise NoFigure(
                    f"{self.answered} of {len(self.transports)} answered, {self.lost} connections were closed"
                )
            await asyncio.sleep(0.005)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self.transports:
            transport.abort()


@contextlib.asynccontextmanager
async def highest_memory(server: Running, found: list[int]) -> AsyncIterator[None]:
    """Append the server's highest resident memory meanwhile, in bytes."""
    highest = server.resident_bytes()

    async def look() -> None:
        nonlocal highest
        while True:
            highest = max(highest, server.resident_bytes())
            await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        found.append(max(highest, server.resident_bytes()))
