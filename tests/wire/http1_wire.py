"""Connections of our HTTP/1.1 without a network: bytes in, bytes out."""

import asyncio
import socket
from typing import Any

from quart_async_api.server.http1 import Connection
from quart_async_api.server.hypercorn_internals import BoundedConfig
from quart_async_api.server.listeners import Server
from quart_async_api.wire.connections import Connections


class Wire(asyncio.Transport):
    """A connection to nobody, which keeps what is written."""

    def __init__(self) -> None:
        self.link, self._other = socket.socketpair()
        super().__init__({"socket": self.link, "peername": "", "sockname": ""})
        self.written = b""
        self.writes = 0
        self.is_over = False

    def write(self, data: Any) -> None:
        self.written += data
        self.writes += 1

    def close(self) -> None:
        self.is_over = True
        self.link.close()
        self._other.close()

    def is_closing(self) -> bool:
        return self.is_over

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Alone(Server):
    """Has no Hypercorn for WebSockets."""

    def hand_over(self, connection: Connection, transport: asyncio.Transport, data: bytes) -> None:
        transport.close()


def alone(app: Any) -> Alone:
    """Return a server of `app`. Close it."""
    config = BoundedConfig()
    config.connections, config.errorlog = Connections(10, 10), None
    return Alone(app, config)
