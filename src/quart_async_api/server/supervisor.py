"""`serve --processes N`, `serve --reload`: processes that share one listening socket.

Replaces dead ones, and all of them on SIGHUP or after a change of the code.
"""

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from ..observability import shared_metrics
from . import signals
from .reloading import watched

log = logging.getLogger(__name__)

STEADY_SECONDS = 10.0  # a process that ran longer is replaced at once
LONGEST_PAUSE = 30.0
READY, REPLACED = b"+", b"-"  # from a server that serves; to a server that is replaced
# One that was just starting, with no Python to handle the signal yet, dies of it.
_ENDED_WELL = (0, -signal.SIGTERM, -signal.SIGINT)


async def supervise(
    listener: int,
    processes: int,
    options: Sequence[str] = (),
    *,
    metrics: Path | None = None,
    sources: Collection[Path] = (),
) -> int:
    """Keep `processes` servers on the listening socket until SIGTERM or SIGINT; 0 once each of them has drained.

    `options` are those of their command `serve`. In the folder `metrics` they share their metrics.

    SIGHUP replaces them one by one, without a pause in the service; the new ones read the code and the settings anew. So does a
    change in the folders `sources`; there a process that fails is not started again before the next change.
    """
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals.ENDING:
        loop.add_signal_handler(number, stop.set)
    if signals.is_heard(signal.SIGHUP):
        # From a terminal it means that the terminal is gone.
        loop.add_signal_handler(signal.SIGHUP, (stop if any(map(os.isatty, range(3))) else reload).set)
    places = [_Place(listener, options, number, metrics, restarts=not sources) for number in range(processes)]
    async with watched(sources, reload):
        reloading = asyncio.create_task(_reload(places, reload))
        await asyncio.gather(*(place.keep(stop) for place in places))
        reloading.cancel()
    code = max(await asyncio.gather(*(place.end() for place in places)))
    signals.let_go(loop)
    return code


async def _reload(places: Sequence["_Place"], wanted: asyncio.Event) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        log.info("replacing the processes one by one")
        for place in places:
            if not await place.replace():
                log.error("a new process ended before it served; the old processes stay")
                break
        else:
            log.info("replaced all processes")


class _Server:
    """A process that serves on the listening socket. Its standard input is a socket to this one, and ends with it."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket, name: str) -> None:
        self.name = name
        self.pid = process.pid
        self.ended = asyncio.create_task(process.wait())
        self.began = time.monotonic()
        self._process = process
        self._line = line

    async def is_ready(self) -> bool:
        """Wait until it serves; False if it ended first."""
        return await asyncio.get_running_loop().sock_recv(self._line, 1) == READY

    def give_way(self) -> None:
        """Let it stop accepting, drain and end."""
        with suppress(OSError):
            self._line.send(REPLACED)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()


class _Place:
    """One of the N places: its current server, and servers that still drain."""

    def __init__(
        self, listener: int, options: Sequence[str], number: int, metrics: Path | None, *, restarts: bool
    ) -> None:
        self._restarts = restarts
        self._replaced = asyncio.Event()
        self._number = number
        self._metrics = metrics
        self._listener = listener
        self._options = options
        self._current: _Server | None = None
        self._living: set[_Server] = set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Keep a server in this place until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        failures = 0
        try:
            while not stop.is_set():
                if (server := self._current or await self._start()) is None:
                    failures += 1
                    await self._pause(stop, failures)
                    continue
                self._current = server
                await asyncio.wait({server.ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set() or server is not self._current:
                    continue
                self._current = None
                failures = 0 if time.monotonic() - server.began > STEADY_SECONDS else failures + 1
                if not self._restarts:
                    log.error(
                        "process %d ended with %d; the next change starts a new one", server.pid, server.ended.result()
                    )
                    await self._wait_for_successor(stopping)
                    continue
                log.error("process %d ended with %d; a new process replaces it", server.pid, server.ended.result())
                await self._pause(stop, failures)
        finally:
            stopping.cancel()

    async def _pause(self, stop: asyncio.Event, failures: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 16))):
                await stop.wait()

    async def _wait_for_successor(self, stopping: asyncio.Task[bool]) -> None:
        while self._current is None and not stopping.done():
            self._replaced.clear()
            replaced = asyncio.create_task(self._replaced.wait())
            await asyncio.wait({replaced, stopping}, return_when=asyncio.FIRST_COMPLETED)
            replaced.cancel()

    async def replace(self) -> bool:
        """Replace the server, and wait until the old one has drained; False if the new one does not serve."""
        successor = await self._start()
        if successor is None or not await successor.is_ready():
            return False
        old, self._current = self._current, successor
        self._replaced.set()
        if old is not None:
            old.give_way()
            await asyncio.shield(old.ended)
        return True

    async def end(self) -> int:
        """End all servers of this place; 1 if one failed."""
        servers = list(self._living)
        for server in servers:
            server.terminate()
        codes = await asyncio.gather(*(server.ended for server in servers))
        return 0 if all(code in _ENDED_WELL for code in codes) else 1

    async def _start(self) -> _Server | None:
        """Return a new server; None, and say why, where the system has no room for one, which passes."""
        try:
            return await self._begin()
        except OSError as error:
            log.error("cannot start a process: %s", error)
            return None

    async def _begin(self) -> _Server:
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = (sys.executable, "-m", "quart_async_api", "serve", "--inherited", str(self._listener), *self._options)
        # The successor of a server that still drains has another name, so that no two write the same files.
        taken = {server.name for server in self._living}
        name = next(name for mark in itertools.count() if (name := f"{self._number}x{mark}") not in taken)
        environment = shared_metrics.environment(self._metrics, name)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=theirs.fileno(), pass_fds=[self._listener], env={**os.environ, **environment}
                )
            except OSError:
                ours.close()
                raise
        server = _Server(process, ours, name)
        self._living.add(server)

        def ended(_: object) -> None:
            self._living.discard(server)
            ours.close()
            shared_metrics.forget(self._metrics, name)

        server.ended.add_done_callback(ended)
        return server
