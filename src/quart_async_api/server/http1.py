"""One client connection: HTTP/1.1 as an `asyncio.Protocol`. All else is handed to Hypercorn, with every byte that came.

It reads one request at a time; later bytes of the client wait. One timer limits each wait of the connection.
"""

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from ..wire.connections import Abortable
from .http1_exchange import HIGH, Exchange, scope_of, status_line
from .http1_head import Head, Refused
from .http1_input import Input
from .one_timer import OneTimer

if TYPE_CHECKING:
    from .listeners import Server

_LINGER_SECONDS = 2.0  # for a client to read its answer while it still sends
_PARTING_SECONDS = 0.1  # the same, and for a first request, when the server stops
_PROBE_SECONDS = 0.25  # after the end of what a client sends, while it waits for an answer
_PROBE_GROWTH = 4
# The kernel of a client that is gone forgets the connection after a minute, and answers a probe with a reset from then on.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), 15)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")
        if hasattr(socket, name)
    ),
]
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Idle, in an exchange, or closing: then it throws away what still comes.

    `unread`: set when the client has read again; None while nothing waits to be sent.
    """

    __slots__ = (
        "_client", "_exchange", "_handshake", "_input", "_is_closing", "_is_ended", "_is_paused", "_is_secure", "_lingers",
        "_patience", "_requests", "_server", "_server_address", "_timer", "_transport", "_unsent", "loop", "unread",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, server: "Server", handshake: Abortable | None = None) -> None:
        """`handshake`: has held a place for this connection until now."""
        self._server = server
        self._handshake = handshake
        self.loop = server.loop
        self.unread: asyncio.Event | None = None
        self._input = Input(server.config.h11_max_incomplete_size)
        self._timer = OneTimer(server.loop, server.context)
        self._exchange: Exchange | None = None
        self._requests = 0
        self._client: tuple[str, int] | None = None  # of a Unix socket none
        self._server_address: tuple[str, int] | None = None
        self._is_secure = self._is_paused = self._is_ended = self._is_closing = self._lingers = False
        self._patience = _PROBE_SECONDS
        self._unsent = 0

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        if self._handshake is not None:
            server.places.discard(self._handshake)
            self._handshake = None
        peer, bound = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if self.link.family != socket.AF_UNIX:
            if not peer:  # it was reset already
                self._is_closing = True
                self.abort()
                return
            self._client, self._server_address = (peer[0], peer[1]), (bound[0], bound[1])
        if not server.made(self, None if self._client is None else self._client[0]):
            self._is_closing = True
            self._transport.write(_UNAVAILABLE)
            self._transport.close()
            return
        tls = transport.get_extra_info("ssl_object")
        self._is_secure = tls is not None
        if not server.is_fast or (tls is not None and tls.selected_alpn_protocol() == "h2"):
            self._hand_over()
            return
        self._bound()
        if server.is_stopping:
            self.stop()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._input.take()
        self._timer.cancel()
        self._server.lost(self)
        if self.unread is not None:
            self.unread.set()
        self._drop_exchange()

    def pause_writing(self) -> None:
        self.unread = asyncio.Event()
        self._bound()

    def resume_writing(self) -> None:
        if self.unread is not None:
            self.unread.set()
            self.unread = None
        self._bound()

    def abort(self) -> None:
        """Close without a word."""
        self._transport.abort()

    @property
    def link(self) -> socket.socket:
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def write(self, *data: bytes) -> None:
        if self._transport.is_closing():
            return
        if len(data) == 1:
            self._transport.write(data[0])
        else:
            self._transport.writelines(data)

    # Time

    def _bound(self) -> None:
        """Set the timer to what the connection waits for from now on."""
        config, exchange, timer = self._server.config, self._exchange, self._timer
        if self._lingers:
            timer.wait(_PARTING_SECONDS if self._server.is_stopping else _LINGER_SECONDS, self._close_at_last)
        elif self._is_closing or self.unread is not None:
            self._unsent = self._transport.get_write_buffer_size()
            timer.wait(config.send_timeout, self._expect_reader)
        elif exchange is None:
            timer.wait(config.keep_alive_timeout, self._close)
        elif not exchange.is_complete and not self._is_paused:
            timer.wait(config.body_timeout, self._end_late_body)
        elif self._is_ended:
            timer.wait(self._patience, self._probe)
        else:
            timer.rest()

    def _expect_reader(self) -> None:
        """Abort a client that has read nothing of what is sent for `send_timeout`."""
        if self._transport.get_write_buffer_size() < self._unsent:
            self._bound()
        else:
            self.abort()

    def _end_late_body(self) -> None:
        self._refuse(408)

    def _probe(self) -> None:
        """Send what draws a reset from a client that is gone, and means nothing to one that reads."""
        if self._exchange is not None and (probe := self._exchange.probe()):
            self.write(probe)
        self._patience *= _PROBE_GROWTH
        self._bound()

    # Requests

    def data_received(self, data: bytes) -> None:
        if not self._is_closing:
            self._input.add(data)
            self._read()

    def _read(self) -> None:
        """Read what came of one request."""
        if self._is_closing:
            return
        try:
            if self._exchange is None:
                self._read_head()
            if self._exchange is not None and not self._exchange.is_complete:
                self._read_body(self._exchange)
        except Refused as refused:
            self._refuse(refused.status)
        self.regulate()

    def regulate(self) -> None:
        """Read from the client only what the app takes."""
        if self._is_closing or self._is_ended:
            return
        waiting = 0 if self._exchange is None else self._exchange.waiting + len(self._input)
        if (waiting > HIGH) is self._is_paused:
            return
        self._is_paused = not self._is_paused
        if self._is_paused:
            self._transport.pause_reading()
            self._server.hang_ups.watch(self)  # nothing else would notice a reset
        else:
            self._server.hang_ups.forget(self)
            self._transport.resume_reading()
        self._bound()

    def _read_head(self) -> None:
        head = self._input.read_head()
        if head is not None and not head.opens_socket:
            self._begin(head)
        elif self._is_ended:
            if len(self._input):  # half a head, or a WebSocket, which needs both directions
                raise Refused(400)
            self._close()
        elif head is not None:
            self._hand_over()

    def _read_body(self, exchange: Exchange) -> None:
        body, is_complete = self._input.read_body()
        if body:
            exchange.feed(body)
        if is_complete:
            exchange.complete()
            self._bound()
        elif body and len(self._input):  # others come first
            self.loop.call_soon(self._read, context=self._server.context)
        elif self._is_ended:
            raise Refused(400)

    def _begin(self, head: Head) -> None:
        server = self._server
        self._requests += 1
        if self._requests >= server.config.keep_alive_max_requests or server.is_stopping:
            head.keeps = False
        if not server.answers_to(head):
            raise Refused(404)
        self._exchange = Exchange(self, head)
        self._bound()
        scheme = "https" if self._is_secure else "http"
        scope = scope_of(head, scheme, self._client, self._server_address, server.config.root_path, server.state)
        server.start(self, self._exchange, scope)

    def common_fields(self) -> bytes:
        return self._server.common_fields()

    def answered(self) -> None:
        exchange, self._exchange = self._exchange, None
        if self._is_closing or exchange is None:
            return
        if not exchange.is_complete:
            self._close(lingers=True)
        elif not exchange.keeps or self._server.is_stopping:
            self._close(lingers=len(self._input) > 0)
        else:
            self._bound()
            if len(self._input) or self._is_ended:  # the next request may be there already
                self.loop.call_soon(self._read, context=self._server.context)
            else:
                self.regulate()  # the app may have left its body untaken

    def failed(self, exchange: Exchange) -> None:
        """The app returned before the end of its answer."""
        if self._exchange is not exchange:
            return
        if not exchange.has_begun:
            self._refuse(500)
            return
        self._exchange = None
        if exchange.ends_with_connection:
            self.abort()
        else:
            self._close()

    def _drop_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.lost()
            self._exchange = None

    # The end

    def eof_received(self) -> bool:
        """Return whether the client may still read: one that only ends its requests looks like one that is gone."""
        self._is_ended = True
        if self._is_secure:
            self._is_closing = True
            self._drop_exchange()
        self._read()
        if self._is_closing:
            return False
        self._server.hang_ups.watch(self)
        if self._client is not None:
            for level, name, value in _KEEP_ALIVE:
                self.link.setsockopt(level, name, value)
        self._bound()
        return True

    def _refuse(self, status: int) -> None:
        """Answer without the app, and close."""
        if self._exchange is None or not self._exchange.has_begun:
            last = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.write(status_line(status) + self._server.common_fields() + last)
        self._drop_exchange()
        self._close(lingers=True)

    def _close(self, *, lingers: bool = False) -> None:
        """Close once all is sent. `lingers`: read on for a moment, since a reset would destroy the answer on its way."""
        self._is_closing = True
        self._input.take()
        if lingers and not self._is_ended and self._transport.can_write_eof():
            self._lingers = True
            with suppress(OSError):  # the client is gone, as reading on will tell
                self._transport.write_eof()
            if self._is_paused:
                self._transport.resume_reading()
            self._bound()
        else:
            self._close_at_last()

    def _close_at_last(self) -> None:
        self._lingers = False
        if not self._transport.is_closing():  # asyncio's TLS breaks when it is closed twice
            self._transport.close()
        self._bound()

    def stop(self) -> None:
        """Close now, or when the answer is sent."""
        if self._lingers:
            self._bound()
        elif not self._is_closing and self._exchange is None:
            if self._requests or len(self._input):
                self._close()
            else:
                self._timer.wait(_PARTING_SECONDS, self._close)  # its first request may be on its way

    def _hand_over(self) -> None:
        self._is_closing = True
        self._timer.cancel()
        if self._is_paused:
            self._server.hang_ups.forget(self)
            self._transport.resume_reading()
        self._server.hand_over(self, self._transport, self._input.take())
