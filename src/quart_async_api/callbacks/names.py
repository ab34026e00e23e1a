"""What names stand for, asked in threads of our own: a name server that does not answer holds up nothing else."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 100  # names that are asked for at once; more wait their turn


class Names(AbstractResolver):
    """The system's own resolver (getaddrinfo). Its threads are daemons: none keeps the process from ending."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(THREADS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError."""
        await self._free.acquire()
        infos = await self._in_thread(
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
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

    async def _in_thread(self, ask: Callable[[], list[Any]]) -> list[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def settle(infos: list[Any], error: Exception | None) -> None:
            self._free.release()  # now, not when the caller gives up: the thread is busy until then
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
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any longer
                loop.call_soon_threadsafe(settle, infos, error)

        threading.Thread(target=work, name="name lookup", daemon=True).start()
        return await answer

    async def close(self) -> None: ...
