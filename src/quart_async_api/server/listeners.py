"""Accepts connections for the app, and stops: listeners, connections and running requests of one server.

Hypercorn has the lifespan, and each connection that `http1.py` hands over.
"""

import asyncio
import contextvars
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import randint
from typing import TYPE_CHECKING, Any, cast

import hypercorn.asyncio
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Sockets
from hypercorn.utils import wrap_app

from .hang_ups import HangUps
from .http1 import Connection
from .http1_exchange import Exchange
from .http1_head import Head
from .hypercorn_internals import BoundedConfig, HypercornConnection
from .tls_listener import TlsListener

if TYPE_CHECKING:
    import ssl

    from hypercorn.typing import LifespanState

_LAST_SECONDS = 0.1  # for cancelled requests to end

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


async def serve(app: AsgiApp, config: BoundedConfig, *, shutdown_trigger: Callable[[], Awaitable[object]]) -> None:
    """Serve until `shutdown_trigger` returns, in place of `hypercorn.asyncio.serve`."""
    quic, config.quic_bind = config.quic_bind, []
    sockets = config.create_sockets()
    config.bind, config.insecure_bind, config.quic_bind = [], [], quic  # Hypercorn opens only what is left: QUIC
    server = Server(app, config)

    async def triggered() -> None:
        await server.listen(sockets)
        ends = [asyncio.ensure_future(shutdown_trigger()), asyncio.ensure_future(server.worker.terminate.wait())]
        done, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in pending:
            end.cancel()
        for end in done:
            end.result()
        await server.stop()

    try:
        await hypercorn.asyncio.serve(server.with_lifespan, config, shutdown_trigger=triggered, mode="asgi")
    finally:
        server.close()
        for bound in (*sockets.secure_sockets, *sockets.insecure_sockets):
            bound.close()


class Server:
    """What the connections share.

    `places`: the connections that are open. `connections`: those of `http1.py`. `context`: without variables of a request.
    `worker`: Hypercorn's. `is_fast`: HTTP/1.1 is not left to Hypercorn.
    """

    def __init__(self, app: AsgiApp, config: BoundedConfig) -> None:
        self.config = config
        self.places = config.connections
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.connections: set[Connection] = set()
        self.hang_ups = HangUps(self.loop)
        self.state: LifespanState = {}
        self.is_stopping = False
        self.is_fast = config.http1_is_fast and not _needs_hypercorn(config)
        jitter = randint(0, config.max_requests_jitter)  # noqa: S311 - spreads restarts
        self.worker = WorkerContext(None if config.max_requests is None else config.max_requests + jitter)
        self._app = app
        self._wrapped = wrap_app(cast("Any", app), config.wsgi_max_body_size, "asgi")
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_empty = asyncio.Event()
        self._fields_at, self._fields = 0, b""

    async def with_lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """The app. What it keeps in the state of its lifespan, each request gets."""
        if scope["type"] == "lifespan":
            self.state = scope["state"]
        await self._app(scope, receive, send)

    async def listen(self, sockets: Sockets) -> None:
        config, accepted = self.config, partial(Connection, self)
        if sockets.secure_sockets:
            context = cast("ssl.SSLContext", config.create_ssl_context())
            for bound in sockets.secure_sockets:
                bound.listen(config.backlog)
                timeout = config.ssl_handshake_timeout
                self._listeners.append(TlsListener(accepted, bound, context, self.places, timeout=timeout))
        for bound in sockets.insecure_sockets:
            start = self.loop.create_unix_server if bound.family == socket.AF_UNIX else self.loop.create_server
            self._listeners.append(await start(accepted, sock=bound, backlog=config.backlog))

    async def stop(self) -> None:
        """Stop accepting, let running requests end within `graceful_timeout`, and end the others."""
        self.is_stopping = True
        await self.worker.terminated.set()
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.stop()
        self._check()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.graceful_timeout):
                for listener in self._listeners:
                    if isinstance(listener, TlsListener):
                        await listener.wait_closed()
                await self._is_empty.wait()
                return
        self.places.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)

    def close(self) -> None:
        self.hang_ups.close()

    def _check(self) -> None:
        if self.is_stopping and not self.connections and not self._tasks:
            self._is_empty.set()

    # Connections

    def made(self, connection: Connection, address: str | None) -> bool:
        """Give a connection its place. Return False if there is none."""
        if not self.places.add(connection, address):
            return False
        self.connections.add(connection)
        return True

    def lost(self, connection: Connection) -> None:
        self.places.discard(connection)
        self.hang_ups.forget(connection)
        self.connections.discard(connection)
        self._check()

    def hand_over(self, connection: Connection, transport: asyncio.Transport, data: bytes) -> None:
        """Let Hypercorn have a connection, which keeps its place, and the bytes that came on it."""
        self.connections.discard(connection)
        reader = asyncio.StreamReader(loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, partial(self._serve_by_hypercorn, connection), loop=self.loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)

    async def _serve_by_hypercorn(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            await HypercornConnection(self._wrapped, self.loop, self.config, self.worker, self.state, reader, writer)
        finally:
            self._tasks.discard(task)
            self.lost(connection)

    # Requests

    def start(self, connection: Connection, exchange: Exchange, scope: dict[str, Any]) -> None:
        # asyncio reads on in the context in which it was told to: that of the request before.
        exchange.task = self.loop.create_task(self._run(connection, exchange, scope), context=self.context.copy())
        self._tasks.add(exchange.task)

    async def _run(self, connection: Connection, exchange: Exchange, scope: dict[str, Any]) -> None:
        try:
            if exchange.start():
                await self._app(scope, exchange.receive, exchange.send)
            if self.worker.max_requests is not None:
                await self.worker.mark_request()
        except Exception:
            await self.config.log.exception("Error in ASGI Framework")
        finally:
            connection.failed(exchange)  # unless its answer is complete
            if exchange.task is not None:
                self._tasks.discard(exchange.task)
                exchange.task = None
            self._check()

    def answers_to(self, head: Head) -> bool:
        """Return whether the Host is one of `server_names`."""
        names = self.config.server_names
        return not names or dict(head.fields).get(b"host", b"").decode("latin-1") in names

    def common_fields(self) -> bytes:
        """Return the fields of every answer: the date, and what else Hypercorn's configuration has."""
        now = int(time.time())
        if now != self._fields_at:
            fields = self.config.response_headers("h11")
            self._fields_at, self._fields = now, b"".join(b"%b: %b\r\n" % field for field in fields)
        return self._fields


def _needs_hypercorn(config: BoundedConfig) -> bool:
    """Options of Hypercorn that only its own HTTP/1.1 has."""
    return bool(
        config.accesslog or config.statsd_host or config.h11_pass_raw_headers or config.read_timeout is not None
    )
