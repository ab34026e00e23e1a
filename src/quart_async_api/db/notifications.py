"""Wake-ups between the processes of one PostgreSQL database, by LISTEN and NOTIFY on a connection of their own.

A NOTIFY inside a transaction takes a lock of the whole database at its commit. So a process tells of a change after its commit,
and each process has at most one message under way. A wake-up can be lost, so listeners poll too. On SQLite, none is sent.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from .failures import translated
from .url import DatabaseUrl

if TYPE_CHECKING:
    import psycopg

CHECK_SECONDS = 10.0
GAP_SECONDS = 0.005  # between two messages of a process: the changes of this time share one
_CHECKS = 2  # without an answer, after which the connection counts as broken
_CONNECT_SECONDS = 5
_CHANNEL = b"quart_async_api"
_LINES = 150  # of a message: PostgreSQL takes less than 8000 bytes
_Listener = Callable[[Collection[str]], object]


class Wake(StrEnum):
    """Why a process wakes the others."""

    EVENTS = "events"  # events of jobs were written
    WORK = "work"  # jobs are ready that this process does not begin at once
    CANCEL = "cancel"  # running jobs, named by their ids, are to stop
    DEATH = "death"  # a worker, named by its id, has died
    CALLBACKS = "callbacks"  # callbacks are due that this process does not send at once
    PAUSES = "pauses"  # a task was paused, or goes on
    COUNTED = "counted"  # requests were counted for the rate limit: how many, and of whom


class Notifications:
    """The wake-ups of one process.

    On PostgreSQL, call `check` at the start, each CHECK_SECONDS, and after `on_lost` is called.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self._url = url
        self._listeners: defaultdict[str, list[_Listener]] = defaultdict(list)
        self._told: dict[tuple[str, str], None] = {}  # kinds and ids to send, in order
        self._connection: psycopg.AsyncConnection[object] | None = None
        self._socket = -1
        self._is_busy = False  # from a call of `tell` until GAP_SECONDS after the answer to its message
        self._is_asked = False  # an answer is outstanding
        self._checking = asyncio.Lock()
        self._unanswered = 0  # checks since the last answer
        self.on_lost: Callable[[], None] = lambda: None
        self.sent = 0

    def on(self, kind: Wake, listener: _Listener) -> None:
        """Call `listener` with the ids of each wake-up by another process, and after each connect with none."""
        self._listeners[kind].append(listener)

    def tell(self, kind: Wake, *ids: str) -> None:
        """Wake the other processes. Call it after the commit of what they are to find."""
        if self._connection is not None:
            self._told.update(dict.fromkeys((kind.value, each) for each in ids or ("",)))
            if not self._is_busy:
                self._is_busy = True
                asyncio.get_running_loop().call_soon(self._send)  # so changes of this round share a message

    async def check(self) -> None:
        """Connect, or find out whether the server still answers. Raises DatabaseUnavailable."""
        async with self._checking:
            self._unanswered += 1
            if self._unanswered > _CHECKS:
                self._lose()
            if self._connection is None:
                await self._connect()
            elif not self._is_busy:
                self._is_busy = True
                self._ask(b"")

    def close(self) -> None:
        self.on_lost = lambda: None
        self._lose()

    async def _connect(self) -> None:
        import psycopg

        with translated():
            conninfo = self._url.conninfo(_CONNECT_SECONDS)
            connection: psycopg.AsyncConnection[object]
            connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            try:
                await connection.execute(b"LISTEN " + _CHANNEL)
            except BaseException:
                await connection.close()
                raise
        self._connection, self._socket, self._unanswered = connection, connection.pgconn.socket, 0
        asyncio.get_running_loop().add_reader(self._socket, self._readable)
        for listeners in self._listeners.values():
            for listener in listeners:
                listener(())

    def _send(self) -> None:
        """Send what was told, if anything was."""
        if self._is_asked:  # on a new connection, the timer was of the one before
            return
        lines = list(islice(self._told, _LINES))
        for line in lines:
            del self._told[line]
        self._is_busy = bool(lines)
        if lines:
            self.sent += 1
            message = "\n".join(map(" ".join, lines)).encode()
            self._ask(b"SELECT pg_notify($1, $2)", _CHANNEL, message)

    def _ask(self, sql: bytes, *values: bytes) -> None:
        import psycopg

        if self._connection is None:
            return
        self._is_asked = True
        try:
            self._connection.pgconn.send_query_params(sql, values)
            self._connection.pgconn.flush()
        except psycopg.Error:
            self._lose()

    def _readable(self) -> None:
        import psycopg

        if self._connection is None:
            return
        server = self._connection.pgconn
        try:
            server.consume_input()
            while self._is_asked and not server.is_busy():
                if server.get_result() is None:  # the end of the answer
                    self._is_asked, self._unanswered = False, 0
                    asyncio.get_running_loop().call_later(GAP_SECONDS, self._send)
            while (heard := server.notifies()) is not None:
                if heard.be_pid != server.backend_pid:
                    self._hear(heard.extra.decode())
        except psycopg.Error:
            self._lose()

    def _hear(self, message: str) -> None:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for line in message.splitlines():
            kind, _, about = line.partition(" ")
            found[kind] += [about] if about else []
        for kind, ids in found.items():
            for listener in self._listeners.get(kind, ()):
                listener(ids)

    def _lose(self) -> None:
        if self._connection is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._connection.pgconn.finish()
        self._connection, self._is_busy, self._is_asked = None, False, False
        self._told.clear()
        self.on_lost()
