"""A server of HTTP/1.1 on loopback in a thread of this process, and a client that speaks bytes."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from quart_async_api.server.hypercorn_internals import BoundedConfig, install
from quart_async_api.server.listeners import serve
from quart_async_api.wire.connections import Connections
from quart_async_api.wire.proxies import TrustedProxies
from quart_async_api.wire.request_log import RequestLog

PATIENCE = 60.0
SECONDS = 1.0  # for a head, a body, and a client that does not read
LARGE = bytes(3_000_000)
MARK = ContextVar("MARK", default="nothing")
KINDS = ("fast-uvloop", "fast-asyncio", "hypercorn-uvloop")
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


@dataclass
class App:
    """Answers with what it was asked, after the whole body, unless its path says otherwise.

    `seen`: method, target and body of each request. `begun`, `left`: semaphores of `/slow` and `/stream`, which wait for
    `release`.
    """

    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    scopes: list[dict[str, Any]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    loop: asyncio.AbstractEventLoop | None = None
    taken: int = 0

    def release(self) -> None:
        assert self.loop
        with suppress(RuntimeError):  # its server has ended
            self.loop.call_soon_threadsafe(self._event.set)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.loop, self._event = asyncio.get_running_loop(), asyncio.Event()
            while (message := await receive())["type"] != "lifespan.shutdown":
                scope["state"]["kept"] = "by the lifespan"
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": message["text"]})
        else:
            self.scopes.append({key: value for key, value in scope.items() if not key.startswith("quart_async_api")})
            await getattr(self, f"_{scope['path'].strip('/*:0123456789')}", self._echo)(scope, receive, send)

    async def _body(self, receive: Any) -> bytes:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            body += message["body"]
            more = message["more_body"]
        return bytes(body)

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        body = await self._body(receive)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.seen.append((scope["method"], target, body))
        answer = json.dumps([scope["method"], target.decode("latin-1"), body.decode("latin-1")]).encode()
        await self._answer(send, answer)

    async def _answer(self, send: Any, body: bytes, status: int = 200, *fields: tuple[bytes, bytes]) -> None:
        headers = [(b"content-length", b"%d" % len(body)), *fields]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _large(self, scope: Any, receive: Any, send: Any) -> None:
        await self._answer(send, LARGE)

    async def _marked(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers with what the request before has left in the context."""
        found = MARK.get()
        MARK.set("left")
        await self._body(receive)
        await self._answer(send, found.encode())

    async def _unread(self, scope: Any, receive: Any, send: Any) -> None:
        await self._answer(send, b"unread", 413)

    async def _none(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"a"')]})
        await send({"type": "http.response.body", "body": b"not to be sent"})

    async def _chunked(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"first", b"", b"second"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def _broken(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("broken")

    async def _split(self, scope: Any, receive: Any, send: Any) -> None:
        await self._answer(send, b"split", 200, (b"x-field", b"a\r\nset-cookie: b"))

    async def _lengths(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers with the Content-Lengths of its query."""
        fields = [(b"content-length", value) for value in scope["query_string"].split(b",")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"body"})

    async def _slow(self, scope: Any, receive: Any, send: Any) -> None:
        await self._body(receive)
        await self._waited(receive)
        await self._answer(send, b"slow")

    async def _held(self, scope: Any, receive: Any, send: Any) -> None:
        """Takes nothing of its body until the release."""
        await self._waited(None)
        await self._answer(send, b"%d" % len(await self._body(receive)))

    async def _stream(self, scope: Any, receive: Any, send: Any) -> None:
        await self._body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await self._waited(receive)
        await send({"type": "http.response.body", "body": b"last"})

    async def _waited(self, receive: Any) -> None:
        """Wait for the release; end as soon as the client is gone, of which Hypercorn only tells."""
        self.begun.release()
        waits = {asyncio.ensure_future(self._event.wait())}
        if receive is not None and "quart_async_api.cancels" not in self.scopes[-1]["extensions"]:
            waits.add(asyncio.ensure_future(receive()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._event.is_set():
                raise asyncio.CancelledError
            self._event.clear()
        except asyncio.CancelledError:
            self.left.release()
            raise
        finally:
            for wait in waits:
                wait.cancel()


@dataclass
class Served:
    kind: str
    app: App
    places: Connections
    port: int
    unix: str
    tls: int
    stop_later: Callable[[], None]
    joined: Callable[[], None]

    @property
    def is_fast(self) -> bool:
        return self.kind.startswith("fast")

    def stop(self) -> None:
        self.stop_later()
        self.joined()

    def until_empty(self) -> None:
        """Wait until no connection has a place."""
        ends = time.monotonic() + PATIENCE
        while len(self.places):
            assert time.monotonic() < ends
            time.sleep(0.1)

    @contextmanager
    def connected(self, *, unix: bool = False) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as link:
            link.settimeout(PATIENCE)
            link.connect(self.unix if unix else ("127.0.0.1", self.port))
            yield link

    def exchange(self, sent: bytes, *, unix: bool = False) -> bytes:
        """Send this, and read until the server closes."""
        with self.connected(unix=unix) as link:
            with suppress(ConnectionError):
                link.sendall(sent)
            return until_closed(link)


def until_closed(link: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while data := link.recv(65536):
            received += data
    return received


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def echo(self) -> tuple[str, str, str]:
        method, target, body = json.loads(self.body)
        return method, target, body


def answers(received: bytes, method: str = "GET") -> list[Answer]:
    """Read final answers, one after another; raises ValueError if there is something else. `method`: of the first request."""
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1.1 "):
            raise ValueError(head)
        status, low = int(head[9:12]), head.lower()
        if status == 100:
            continue
        if b"transfer-encoding: chunked" in low:
            body, received = _chunks(received)
        else:
            length = int(low.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if method == "HEAD" or status in (204, 304):
                length = 0
            body, received = received[:length], received[length:]
        found.append(Answer(status, head, body))
        method = "GET"
    return found


def _chunks(received: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, received = received.partition(b"\r\n")
        body += received[: int(size, 16)]
        received = received[int(size, 16) + 2 :]
        if not int(size, 16):
            return body, received


@contextmanager
def served(kind: str, certificate: Path | None = None, **options: Any) -> Iterator[Served]:
    """Serve an app until the end of the block. `kind`: one of KINDS."""
    install()
    app = App()
    config = BoundedConfig()
    config.connections = Connections(100, 100)
    config.http1_is_fast = kind.startswith("fast")
    config.keep_alive_timeout = config.send_timeout = config.body_timeout = SECONDS
    config.ssl_handshake_timeout = PATIENCE
    config.graceful_timeout = SECONDS
    config.h11_max_incomplete_size, config.errorlog, config.include_server_header = 65536, None, False
    for name, value in options.items():
        setattr(config, name, value)
    tls, plain = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    folder = TemporaryDirectory()  # that of a test is too long a name for a socket
    unix = f"{folder.name}/socket"
    local = socket.create_server(unix, family=socket.AF_UNIX)
    config.bind = [f"fd://{plain.fileno()}", f"fd://{local.fileno()}"]
    if certificate is not None:
        config.certfile = config.keyfile = str(certificate)
        config.bind, config.insecure_bind = [f"fd://{tls.fileno()}"], config.bind
    ready, ends = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def stopped() -> None:
        ready.set()
        await ends.wait()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await serve(RequestLog(app, TrustedProxies(()), None), config, shutdown_trigger=stopped)

    run = uvloop.run if kind.endswith("uvloop") else asyncio.run
    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    while not ready.wait(0.1):
        assert thread.is_alive(), "the server has not started"

    def stop_later() -> None:
        with suppress(RuntimeError):  # it has ended by itself
            loops[0].call_soon_threadsafe(ends.set)

    def joined() -> None:
        thread.join(PATIENCE)
        assert not thread.is_alive()

    ports = plain.getsockname()[1], tls.getsockname()[1]
    plain.detach()
    local.detach()
    if certificate is None:
        tls.close()
    else:
        tls.detach()
    try:
        yield Served(kind, app, config.connections, ports[0], unix, ports[1], stop_later, joined)
    finally:
        app.release()
        stop_later()
        folder.cleanup()
        joined()
