"""Uses of Hypercorn's private parts, to correct its handling of connections and HTTP/1.

`install` replaces the classes of Hypercorn with these, for the whole process. tests/unit/test_hypercorn_internals.py
fails when a part that they build on changes.
"""

import asyncio
import logging
from contextlib import suppress
from types import ModuleType
from typing import Any

import h11
import hypercorn.asyncio.run
import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.protocol.h11
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ws_stream

from ..wire.connections import Connections
from . import hypercorn_http2, hypercorn_websockets

log = logging.getLogger(__name__)

_PIECE = 4096  # bytes handled before other tasks run; Hypercorn's 64 kB hold thousands of frames


class BoundedConfig(Config):
    """Hypercorn's configuration, with what it has no option for.

    `connections`: of the server that it is for. `send_timeout`: seconds that a client may leave what is ready unread.
    `body_timeout`: seconds for a whole body. `http1_is_fast`: `http1.py` speaks HTTP/1.1 in place of Hypercorn.
    """

    connections: Connections
    send_timeout = 60.0
    body_timeout = 60.0
    http1_is_fast = True


class HypercornConnection(TCPServer):
    """Ends as soon as the client has closed."""

    async def run(self) -> None:
        if self.writer.get_extra_info("socket") is not None:  # else it was lost as it was handed over
            await super().run()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData) and self.writer.is_closing():
            return  # asyncio's TLS fails on it
        await super().protocol_send(event)

    async def _close(self) -> None:
        with suppress(OSError):  # a TLS client that does not answer close_notify, or sends more data after it
            await super()._close()

    async def _read_data(self) -> None:
        with suppress(OSError):
            while not self.reader.at_eof() and not self.writer.is_closing():
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


_REPLACED: tuple[tuple[ModuleType, str, type], ...] = (
    (hypercorn.asyncio.run, "TCPServer", HypercornConnection),
    (hypercorn.protocol, "H11Protocol", _Http1),
    (hypercorn.protocol, "H2Protocol", hypercorn_http2.Http2),
    (hypercorn.protocol.h11, "WSStream", hypercorn_websockets.WebSocket),
    (hypercorn.protocol.h2, "WSStream", hypercorn_websockets.WebSocket),
    (ws_stream, "Connection", hypercorn_websockets.Connection),
    (ws_stream, "Handshake", hypercorn_websockets.Handshake),
)


def install() -> None:
    """Let Hypercorn use these classes in this process."""
    for module, name, ours in _REPLACED:
        setattr(module, name, ours)
