"""Uses of Hypercorn's private parts, to correct its handling of connections; hypercorn_websockets.py has WebSockets.

`install` replaces the classes of Hypercorn with these, for the whole process. tests/unit/test_hypercorn_internals.py
fails when a part that they build on changes.
"""

import asyncio
import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h11
import hypercorn.asyncio.run
import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.protocol.h11
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ws_stream

from ..wire.connections import Connections
from . import hypercorn_websockets
from .tls_listener import TlsListener

log = logging.getLogger(__name__)

_PIECE = 4096  # bytes handled before other tasks run; Hypercorn's 64 kB hold thousands of frames
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedConfig(Config):
    """Hypercorn's configuration, with the connections of the server that it is for."""

    connections: Connections

    def create_ssl_context(self) -> "_Tls | None":  # type: ignore[override]
        context = super().create_ssl_context()
        return None if context is None else _Tls(context, self.connections)


@dataclass(frozen=True, slots=True)
class _Tls:
    """What Hypercorn hands on to `start_server` as its context."""

    context: ssl.SSLContext
    connections: Connections


class _Asyncio(ModuleType):
    """asyncio as Hypercorn's server sees it: a connection counts from its first moment, though its handshake is not over."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def start_server(self, connected: Any, **options: Any) -> asyncio.Server | TlsListener:
        tls = options.get("ssl")
        if not isinstance(tls, _Tls):
            return await asyncio.start_server(connected, **options)
        options["sock"].listen(options["backlog"])
        return TlsListener(
            connected, options["sock"], tls.context, tls.connections, timeout=options["ssl_handshake_timeout"]
        )


class _Connection(TCPServer):
    """Takes its place among the server's connections, and leaves it as soon as the client has closed."""

    async def run(self) -> None:
        if not isinstance(self.config, BoundedConfig):
            await super().run()
            return
        connections, transport = self.config.connections, self.writer.transport
        peer = transport.get_extra_info("peername")
        if connections.add(transport, peer[0] if isinstance(peer, tuple) else None):
            try:
                await super().run()
            finally:
                connections.discard(transport)
        else:
            transport.write(_UNAVAILABLE)
            transport.close()

    async def _read_data(self) -> None:
        with suppress(OSError):
            while not self.reader.at_eof():
                async with asyncio.timeout(self.config.read_timeout):
                    data = await self.reader.read(_PIECE)
                await self.protocol.handle(RawData(data))
                if len(data) == _PIECE:  # more may be there already
                    await asyncio.sleep(0)
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # else it keeps the descriptor until keep_alive_timeout


class _Refused(Exception):
    """The request is refused with this status."""


class _Http1(hypercorn.protocol.h11.H11Protocol):
    """HTTP/1 only: HTTP/2 without TLS has no time limits in Hypercorn."""

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except OSError:
            raise
        except _Refused as refused:
            await self._refuse(refused.args[0])
        except Exception as error:  # bytes past ASCII in a header field of a WebSocket's handshake
            log.warning("refused a request that Hypercorn cannot read: %r", error)
            await self._refuse(400)

    async def _refuse(self, status: int) -> None:
        connection = getattr(self.connection, "h11_connection", self.connection)  # a WebSocket's is wrapped
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(status)
        await self.send(Closed())

    async def _check_protocol(self, event: Any) -> None:
        if not event.http_version.startswith(b"1."):
            raise _Refused(505)
        # Whoever sends both may hide a second request from a proxy that reads the other one (RFC 9112 section 6.1).
        if {name for name, _ in event.headers} >= {b"content-length", b"transfer-encoding"}:
            raise _Refused(400)


class _Http2(hypercorn.protocol.h2.H2Protocol):
    """An error of one stream does not harm others, and a connection without an open stream is always idle."""

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            try:
                await super()._handle_events([event])
            except OSError:
                raise
            except Exception as error:
                await self._refuse(event, error)

    async def _refuse(self, event: h2.events.Event, error: Exception) -> None:
        with suppress(h2.exceptions.ProtocolError):
            if isinstance(event, h2.events.RequestReceived) and event.stream_id:
                log.warning("refused a request that Hypercorn cannot read: %r", error)
                await self._forget(event.stream_id)
                self.connection.send_headers(
                    event.stream_id, [(b":status", b"400"), (b"content-length", b"0")], end_stream=True
                )
            elif isinstance(event, h2.events.DataReceived) and event.stream_id:
                # The answer ended before the body: the rest of it still counts in the connection's window.
                self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            else:
                log.warning("Hypercorn failed on %r: %r", event, error)
        await self._flush()

    async def _close_stream(self, stream_id: int) -> None:
        known = stream_id in self.streams
        await super()._close_stream(stream_id)
        if not known or self.closed:
            return
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and not buffer._complete:  # broken off, by the app or by the client
            await self._forget(stream_id)
            stream = self.connection.streams.get(stream_id)
            if stream is not None and not stream.closed:
                self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self._flush()
        if self.idle:
            await self.send(Updated(idle=True))

    async def _forget(self, stream_id: int) -> None:
        self.streams.pop(stream_id, None)
        if (buffer := self.stream_buffers.get(stream_id)) is not None:
            await buffer.close()  # the sending task removes it
            self.priority.unblock(stream_id)
            await self.has_data.set()


_REPLACED: tuple[tuple[ModuleType, str, type], ...] = (
    (hypercorn.asyncio.run, "TCPServer", _Connection),
    (hypercorn.protocol, "H11Protocol", _Http1),
    (hypercorn.protocol, "H2Protocol", _Http2),
    (hypercorn.protocol.h11, "WSStream", hypercorn_websockets.WebSocket),
    (hypercorn.protocol.h2, "WSStream", hypercorn_websockets.WebSocket),
    (ws_stream, "Connection", hypercorn_websockets.Connection),
    (ws_stream, "Handshake", hypercorn_websockets.Handshake),
)


def install() -> None:
    """Let Hypercorn use these classes in this process."""
    for module, name, ours in _REPLACED:
        setattr(module, name, ours)
    setattr(hypercorn.asyncio.run, "asyncio", _Asyncio("asyncio"))  # noqa: B010 - mypy knows the name as the module
