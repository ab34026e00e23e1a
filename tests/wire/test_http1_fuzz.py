"""Requests that were damaged at random are refused, or read as h11 and llhttp read them, in one piece and byte by byte."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11
import pytest

from quart_async_api.server.http1 import Connection

from .http1_wire import Wire, alone

httptools: Any = pytest.importorskip("httptools")  # llhttp

TURNS = 40  # of the event loop, for what was sent to be answered
Request = tuple[bytes, bytes, bytes]  # method, target, body

HEADS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST /b?c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n",
    b"PUT http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\nX-Field: \tb \r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n",
)
BODIES = (b"", b"hello", b"abc", b"5\r\nhello\r\n0\r\n\r\n", b"1;x=y\r\na\r\n1\r\nb\r\n0\r\nX-Sum: c\r\n\r\n")
FITTING = (b"", b"hello", b"5\r\nhello\r\n0\r\nX-Sum: c\r\n\r\n", b"", b"", b"abc")
PIECES = (
    *(bytes((byte,)) for byte in b"\0\t\n\r \"+,-./0:;?AZa\x7f\x80\xff"),
    *(b"\r\n", b"\n\n", b"\r\r", b" \r\n", b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:3\r\n", b"Content-Length : 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"chunked"),
    *(b"Host: b\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b", chunked", b"0x5", b"5"),
)  # fmt: skip


def damaged(chance: random.Random) -> bytes:
    """One to three requests with up to four faults."""
    data = b""
    for _ in range(chance.randint(1, 3)):
        number = chance.randrange(len(HEADS))
        body = FITTING[number] if chance.random() < 0.7 else chance.choice(BODIES)
        data += HEADS[number] + b"\r\n" + body
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        if chance.random() < 0.6:  # where it matters most: at the borders of lines and fields
            at = chance.choice([0, *(match.end() for match in re.finditer(rb"\r\n|[ :]", data))])
        kind, length = chance.randrange(4), chance.choice((1, 1, 2, 4, 20))
        if kind == 0:
            data = data[:at] + data[at + length :]
        elif kind == 1:
            data = data[:at] + data[at : at + length] + data[at:]
        else:
            data = data[:at] + chance.choice(PIECES) + data[at + (length if kind == 2 else 0) :]
    return data


class Reader:
    """Reads as the server does."""

    def __init__(self) -> None:
        self._server = alone(self._app)
        self._seen: list[Request] = []

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        target = (scope["raw_path"] + b"?" + scope["query_string"]).removesuffix(b"?")
        self._seen.append((scope["method"].encode(), target, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def read(self, pieces: list[bytes]) -> tuple[list[Request], list[int]]:
        """Return the requests that the app has seen, and the statuses of all answers."""
        self._seen = []
        wire, connection = Wire(), Connection(self._server)
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.is_over:
                connection.data_received(piece)
                await asyncio.sleep(0)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not wire.is_over and connection.eof_received():
            for _ in range(TURNS):
                await asyncio.sleep(0)
        connection.connection_lost(None)
        wire.close()
        await asyncio.sleep(0)
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", wire.written)]
        return self._seen, [status for status in statuses if status != 100]

    def close(self) -> None:
        self._server.close()


def by_llhttp(data: bytes) -> Iterator[Request]:
    found: list[Request] = []

    class Messages:
        def on_message_begin(self) -> None:
            self.target = self.body = b""

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            found.append((parser.get_method().upper(), self.target, self.body))

    parser: Any = httptools.HttpRequestParser(Messages())
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        found.pop()  # it leaves the body to the other protocol
    except httptools.HttpParserError:
        pass
    yield from found


def by_h11(data: bytes) -> Iterator[Request]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    connection.receive_data(data)
    connection.receive_data(b"")
    with suppress(h11.RemoteProtocolError, h11.LocalProtocolError):
        while True:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                return
            yield request.method.upper(), request.target, body
            connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()


@asynccontextmanager
async def reader() -> AsyncIterator[Reader]:
    made = Reader()
    yield made
    made.close()


async def read_alike(seed: int, count: int) -> tuple[int, int]:
    """Return how many requests were accepted, and how many refused."""
    chance = random.Random(seed)  # noqa: S311
    accepted = refused = 0
    async with reader() as ours:
        for _ in range(count):
            data = damaged(chance)
            seen, statuses = await ours.read([data])
            assert (seen, statuses) == await ours.read([data[at : at + 1] for at in range(len(data))]), data
            assert set(statuses) <= {200, 400, 431, 501, 505}, (data, statuses)
            assert len(seen) == statuses.count(200), data
            for theirs in (by_llhttp(data), by_h11(data)):
                for request, (method, target, body) in zip(seen, theirs, strict=False):
                    assert request == (method, target.removesuffix(b"?"), body), data
            accepted += len(seen)
            refused += len(statuses) - len(seen)
    return accepted, refused


async def test_damaged_requests_are_read_alike_or_refused() -> None:
    accepted, refused = await read_alike(seed=1, count=300)
    assert min(accepted, refused) > 100


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_damaged_requests_are_read_alike_or_refused_for_long() -> None:
    for seed in range(2, 102):
        await read_alike(seed, count=1000)
