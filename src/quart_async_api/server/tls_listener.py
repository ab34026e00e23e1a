"""Accepts TLS connections and counts each from its first moment: asyncio shows them only after the handshake."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

from ..wire.connections import Abortable, Connections

log = logging.getLogger(__name__)

_AT_ONCE = 100  # connections accepted before the loop continues
_SHUTDOWN_SECONDS = 2.0  # for the client to answer close_notify
_PAUSE_SECONDS = 1.0  # after a failed accept, mostly for lack of file descriptors

Accepted = Callable[[Abortable], asyncio.BaseProtocol]


class TlsListener:
    """What `loop.create_server` returns, as far as it is used.

    A connection has a place among `connections` during its handshake. The protocol that `accepted` makes for the connection
    gets what holds this place, and frees it. A handshake may take `timeout` seconds.
    """

    def __init__(
        self,
        accepted: Accepted,
        listener: socket.socket,
        context: ssl.SSLContext,
        connections: Connections,
        *,
        timeout: float | None,
    ) -> None:
        self._accepted = accepted
        self._listener = listener
        self._context = context
        self._connections = connections
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._resume()

    def close(self) -> None:
        """Stop accepting."""
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait for started handshakes."""
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                link, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot accept connections: %s", error)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            link.setblocking(False)
            handshake = _Handshake(link)
            if self._connections.add(handshake, address[0] if isinstance(address, tuple) else None):
                handshake.task = task = self._loop.create_task(self._shake_hands(handshake))
                self._handshakes.add(task)
                task.add_done_callback(partial(self._over, handshake))
            else:
                link.close()

    async def _shake_hands(self, handshake: "_Handshake") -> None:
        handshake.has_begun = True
        try:
            await self._loop.connect_accepted_socket(
                partial(self._accepted, handshake),
                handshake.link,
                ssl=self._context,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        except (OSError, TimeoutError) as error:
            log.debug("a TLS handshake failed: %r", error)

    def _over(self, handshake: "_Handshake", task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self._connections.discard(handshake)
        if not handshake.has_begun:  # else asyncio closes it
            handshake.link.close()


class _Handshake:
    """Holds the place of a connection until it is made."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.has_begun = False
        self.task: asyncio.Task[None] | None = None

    def abort(self) -> None:
        if self.task is not None:
            self.task.cancel()
