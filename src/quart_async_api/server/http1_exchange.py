"""One request and its answer over HTTP/1.1: the ASGI side of `http1.py`."""

import asyncio
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

from .http1_head import Field, Head

HIGH = 65_536  # bytes of a body that wait for the app, before the server reads no more
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FINAL = range(200, 1000)
_BODILESS = frozenset((204, 304))
_OWN = frozenset((b"content-length", b"connection", b"transfer-encoding"))  # the server's to send
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_BROKEN = re.compile(rb"[\r\n\0]").search

Message = dict[str, Any]
Address = tuple[str, int] | None


class Connection(Protocol):
    """What an exchange wants of its connection."""

    loop: asyncio.AbstractEventLoop
    unread: asyncio.Event | None  # set when the client has read again; None: nothing waits to be sent

    def write(self, *data: bytes) -> None: ...

    def regulate(self) -> None:
        """The app has taken the part of the body that waited."""

    def common_fields(self) -> bytes:
        """Fields of every answer: the date."""

    def answered(self) -> None:
        """The answer is complete."""


@lru_cache(maxsize=256)
def _lower(name: bytes) -> bytes | None:
    """Return the name of a field in lower case; None for one that is not of HTTP."""
    return name.lower() if _NAME(name) else None


@lru_cache(maxsize=256)
def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d \r\n" % status  # without a phrase, as Hypercorn's and in HTTP/2


def scope_of(
    head: Head, scheme: str, client: Address, server: Address, root_path: str, state: dict[str, Any]
) -> dict[str, Any]:
    """Return the ASGI scope of a request, as Hypercorn makes it."""
    path, _, query = head.target.partition(b"?")
    text = path.decode("ascii")
    return {
        "type": "http",
        "http_version": "1.0" if head.is_old else "1.1",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": head.method,
        "scheme": scheme,
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "root_path": root_path,
        "headers": head.fields,
        "client": client,
        "server": server,
        "state": state.copy(),
        # The app need not watch for a disconnect: its task is cancelled when the client is gone.
        "extensions": {"quart_async_api.cancels": {}},
    }


class Exchange:
    """Gives the app the body as it comes, and writes its answer: the head with the first piece of the body.

    `keeps`: the connection goes on after the answer. `is_complete`: the body has come whole.
    """

    __slots__ = (
        "_body", "_connection", "_has_begun", "_has_no_body", "_has_started", "_head", "_is_chunked", "_is_gone", "_is_over",
        "_left", "_method", "_told_all", "_waits", "_wanted", "is_complete", "is_old", "keeps", "task", "waiting",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._method = head.method
        self._waits = head.waits
        self.is_old = head.is_old
        self.keeps = head.keeps
        self.is_complete = head.length == 0
        self.task: asyncio.Task[None] | None = None
        self.waiting = 0  # bytes of the body that the app has not taken
        self._body: list[bytes] = []
        self._wanted: asyncio.Future[None] | None = None  # the app waits in `receive`
        self._told_all = False
        self._has_started = self._is_gone = False
        self._head: bytes | None = None  # of the answer, until the first piece of its body
        self._has_begun = False
        self._is_over = False
        self._is_chunked = False
        self._has_no_body = False
        self._left: int | None = None  # of the Content-Length of the answer

    @property
    def has_begun(self) -> bool:
        """Whether something of the answer was sent."""
        return self._has_begun

    @property
    def ends_with_connection(self) -> bool:
        """Whether the client takes the end of the connection for the end of the answer."""
        return self._left is None and not self._is_chunked

    def start(self) -> bool:
        """Return whether the app is to run: a task that is cancelled before its first step does not even end its work."""
        self._has_started = True
        return not self._is_gone

    # The request

    def feed(self, data: bytes) -> None:
        self._body.append(data)
        self.waiting += len(data)
        self._wake()

    def complete(self) -> None:
        self.is_complete = True
        self._wake()

    def lost(self) -> None:
        """The client is gone. An app that waits for a message gets a disconnect; another one is cancelled."""
        if self._is_gone or self._is_over:
            return
        self._is_gone = True
        if self._wanted is not None:
            self._wake()
        elif self.task is not None and self._has_started:
            self.task.cancel()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def receive(self) -> Message:
        if self._waits and not self._has_begun and not self.waiting and not self.is_complete:
            self._connection.write(CONTINUE)
        self._waits = False
        while not (self.waiting or self._is_gone or self._is_over or (self.is_complete and not self._told_all)):
            self._wanted = self._connection.loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        if self._is_gone or self._is_over:
            return {"type": "http.disconnect"}
        body = b"".join(self._body)
        self._body.clear()
        if self.waiting:
            self.waiting = 0
            self._connection.regulate()
        self._told_all = self.is_complete
        return {"type": "http.request", "body": body, "more_body": not self.is_complete}

    # The answer

    async def send(self, message: Message) -> None:
        """Raises CancelledError once the client is gone, so that no handler that swallowed its cancellation goes on."""
        if self._is_over:
            return
        if self._is_gone:
            raise asyncio.CancelledError
        kind = message["type"]
        if kind == "http.response.start" and self._head is None and not self._has_begun:
            self._head = self._read_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and (self._has_begun or self._head is not None):
            more = message.get("more_body", False)
            self._write(message.get("body", b""), more=more)
            connection = self._connection
            if connection.unread is not None:
                await connection.unread.wait()
                if self._is_gone:
                    raise asyncio.CancelledError
            if not more:
                self._is_over = True
                self._wake()
                connection.answered()
        else:
            raise RuntimeError(f"{kind} was not expected here")

    def _read_head(self, status: int, fields: Iterable[Field]) -> bytes:
        if status not in _FINAL:
            raise ValueError(f"{status} is no final status")
        lines = [status_line(status)]
        self._has_no_body = self._method == "HEAD" or status in _BODILESS
        self._left, has_date = None, False
        for name, value in fields:
            lower = _lower(name)
            if lower is None or _BROKEN(value):
                raise ValueError(f"the field {name!r} of an answer is not one of HTTP")
            if lower in _OWN and not self._heed(lower, value, status):
                continue
            has_date = has_date or lower == b"date"
            lines.append(b"%b: %b\r\n" % (name, value.strip(b" \t")))
        if not has_date:
            lines.append(self._connection.common_fields())
        return b"".join(lines)

    def _heed(self, name: bytes, value: bytes, status: int) -> bool:
        """Follow a field that says how the answer ends. Return whether it is sent as it is."""
        if name == b"connection":
            if b"close" in value.lower():
                self.keeps = False
            return False
        if name == b"transfer-encoding" or status == 204:  # RFC 9110 section 8.6
            return False
        if self._left is not None or not value.isdigit():
            raise ValueError("the Content-Length of an answer is not one number")
        self._left = int(value)
        return True

    def _last_fields(self) -> bytes:
        """Return how the body ends, and whether the connection goes on: known only as the answer begins."""
        fields = b""
        if self._left is None and not self._has_no_body:
            if self.is_old:
                self.keeps = False
            else:
                self._is_chunked = True
                fields = b"transfer-encoding: chunked\r\n"
        if not self.is_complete:
            self.keeps = False  # what is left of the body would have to be read first
        if not self.keeps:
            return fields + b"connection: close\r\n\r\n"
        return fields + (b"connection: keep-alive\r\n\r\n" if self.is_old else b"\r\n")

    def _write(self, data: bytes, *, more: bool) -> None:
        if self._has_no_body:
            data = b""
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the Content-Length of an answer is not the length of its body")
        if self._head is not None:
            head = self._head + self._last_fields()
            self._head = None
            self._has_begun = True
        else:
            head = b""
        if self._is_chunked:
            if data:
                head += b"%x\r\n" % len(data)
                data += b"\r\n"
            if not more:
                data += b"0\r\n\r\n"
        if len(data) > HIGH:
            self._connection.write(head, data)
        elif head or data:
            self._connection.write(head + data)

    def probe(self) -> bytes:
        """Return bytes that mean nothing to a client that reads, and that one that is gone refuses; none, if there are none.

        Before the answer an interim response, and between two chunks a leading zero of the size of the next one.
        """
        if self._is_chunked:
            return b"0"
        return b"" if self._has_begun or self.is_old else CONTINUE
