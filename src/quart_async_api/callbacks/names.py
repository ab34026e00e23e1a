"""Resolves host names in daemon threads. Each key has a share of them: slow names of one key delay no other key."""

import asyncio
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from .shares import Shares

THREADS = 100  # look-ups at once

asking: ContextVar[str] = ContextVar("asking", default="")  # the key of the callback


class Names(AbstractResolver):
    """The system's resolver (getaddrinfo). Its threads are daemons: they do not delay the end of the process."""

    def __init__(self) -> None:
        self._shares = Shares(THREADS)
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by key

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError."""
        owner = asking.get()
        await self._acquire(owner)
        infos = await self._in_thread(
            owner, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in infos
        ]

    async def _acquire(self, owner: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(waiter)
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._release(owner)
            elif waiter in self._waiting.get(owner, ()):
                self._leave(owner, waiter)
            raise

    def _leave(self, owner: str, waiter: asyncio.Future[None]) -> None:
        self._waiting[owner].remove(waiter)
        if not self._waiting[owner]:
            del self._waiting[owner]

    def _admit(self) -> None:
        while (owner := self._shares.next(self._waiting)) is not None:
            waiter = self._waiting[owner][0]
            self._leave(owner, waiter)
            if not waiter.done():
                self._shares.take(owner)
                waiter.set_result(None)

    def _release(self, owner: str) -> None:
        self._shares.give_back(owner)
        self._admit()

    async def _in_thread(self, owner: str, ask: Callable[[], list[Any]]) -> list[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def settle(infos: list[Any], error: Exception | None) -> None:
            self._release(owner)  # not earlier, if the caller gives up: the thread was busy until now
            if answer.done():
                return
            if error is None:
                answer.set_result(infos)
            else:
                answer.set_exception(error)

        def work() -> None:
            infos: list[Any] = []
            error: Exception | None = None
            try:
                infos = ask()
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed, and nothing waits for it
                loop.call_soon_threadsafe(settle, infos, error)

        try:
            threading.Thread(target=work, name="name lookup", daemon=True).start()
        except RuntimeError as error:
            self._release(owner)
            raise OSError(errno.EAGAIN, f"no look-up: {error}") from error
        return await answer

    async def close(self) -> None: ...
