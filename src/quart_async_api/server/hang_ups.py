"""Notices that a client is gone where asyncio does not look: after the end of its requests, or while reading is paused."""

import asyncio
import select
import socket
from contextlib import suppress
from typing import Protocol


class Watched(Protocol):
    @property
    def link(self) -> socket.socket: ...

    def abort(self) -> None: ...


class HangUps:
    """Aborts a watched connection as soon as the kernel knows that it is gone.

    Other systems than Linux have no epoll: there the connection is noticed when it is written to for the second time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Watched] = {}
        self._descriptors: dict[Watched, int] = {}
        self._poll = select.epoll() if hasattr(select, "epoll") else None
        if self._poll is not None:
            loop.add_reader(self._poll.fileno(), self._heard)

    def watch(self, connection: Watched) -> None:
        if self._poll is not None and connection not in self._descriptors:
            descriptor = connection.link.fileno()
            self._watched[descriptor], self._descriptors[connection] = connection, descriptor
            self._poll.register(descriptor, 0)  # errors and hang-ups are always told

    def forget(self, connection: Watched) -> None:
        descriptor = self._descriptors.pop(connection, None)
        if descriptor is not None and self._poll is not None and self._watched.get(descriptor) is connection:
            del self._watched[descriptor]
            with suppress(OSError):  # it is closed already
                self._poll.unregister(descriptor)

    def close(self) -> None:
        if self._poll is not None:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()

    def _heard(self) -> None:
        if self._poll is not None:
            for descriptor, _ in self._poll.poll(0):
                connection = self._watched[descriptor]
                self.forget(connection)
                connection.abort()
