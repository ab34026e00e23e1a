"""Uses of Hypercorn's private parts, to correct its handling of HTTP/2."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import hypercorn.protocol.h2
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, EndData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import StreamBuffer

from .budget import Budget

log = logging.getLogger(__name__)

_SEND_SECONDS = 60.0  # under Hypercorn's command, which knows no QAA_SEND_TIMEOUT
_PIECE = 16_384  # bytes of an answer that one stream buffers
_SMALL_PIECE = 1024  # where the connection buffers more than the following
_MOST_BUFFERED = 262_144

_LINGER_SECONDS = 1.0  # time for the client to read why its connection is closed
_COST_AT_ONCE = 1000
_COST_PER_SECOND = 200.0
_EARNED_BY_END = 8.0  # an answered request: its head, small DATA, window updates
_EARNED_BY_BYTE = 1 / 1024  # of an answer, for its window updates
_LARGE = 256  # bytes from which a DATA frame costs nothing: it is limited by its flow control

_PREFACE = 24  # bytes
_HEAD = 9  # bytes of a frame
_DATA, _SETTINGS = 0, 4


class Frames:
    """Finds the frames of a connection in the pieces of its bytes, without their content."""

    def __init__(self) -> None:
        self._skip = _PREFACE
        self._kept = b""

    def read(self, piece: bytes) -> Iterator[tuple[int, int]]:
        """The type and length of each frame that begins in `piece`."""
        data, at = self._kept + piece, self._skip
        while at + _HEAD <= len(data):
            length = int.from_bytes(data[at : at + 3], "big")
            yield data[at + 3], length
            at += _HEAD + length
        self._kept, self._skip = data[at:], max(0, at - len(data))


def _cost(kind: int, length: int) -> int:
    if kind == _DATA and length >= _LARGE:
        return 0
    return 1 + (length // 6 if kind == _SETTINGS else 0)  # each setting has 6 bytes


class Http2(hypercorn.protocol.h2.H2Protocol):
    """An error in one stream affects no other, and a connection without an open stream is always idle.

    What the client sends has to be in proportion to what it is answered: frames have a budget. What it does not read is
    bounded, and its stream ends after `send_timeout`. Priorities are ignored (RFC 9113 section 5.3.2).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._send_seconds: float = getattr(self.config, "send_timeout", _SEND_SECONDS)
        self._frames = Frames()
        self._budget = Budget(_COST_AT_ONCE, _COST_PER_SECOND)
        self._ended = False
        self._told = False

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            if self._ended:
                return
            if not self._budget.take(sum(_cost(kind, length) for kind, length in self._frames.read(event.data))):
                await self._end()
                return
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    async def _end(self) -> None:
        self._ended = True
        log.warning("closed an HTTP/2 connection of %s that sent too many frames", self.client)
        with suppress(h2.exceptions.ProtocolError):
            self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        self.task_group.spawn(self._part)

    async def _part(self) -> None:
        await asyncio.sleep(_LINGER_SECONDS)
        await self.send(Closed())

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        pass

    # Answers

    async def stream_send(self, event: StreamEvent) -> None:
        buffer = self.stream_buffers.get(event.stream_id)
        if isinstance(event, EndBody | EndData) and buffer is not None and not buffer._complete:
            self._budget.earn(_EARNED_BY_END)
        if not isinstance(event, Body | Data):
            await super().stream_send(event)
            return
        rest = memoryview(event.data)
        while rest and buffer is not None and not buffer._complete:
            buffered = sum(len(other.buffer) for other in self.stream_buffers.values())
            size = _PIECE if buffered < _MOST_BUFFERED else _SMALL_PIECE
            await super().stream_send(type(event)(stream_id=event.stream_id, data=bytes(rest[:size])))
            rest = rest[size:]
            await self._until_sent(event.stream_id, buffer)

    async def _until_sent(self, stream_id: int, buffer: StreamBuffer) -> None:
        while left := len(buffer.buffer):
            try:
                async with asyncio.timeout(self._send_seconds):
                    await buffer.drain()
            except TimeoutError:
                if len(buffer.buffer) == left:  # the client opens no window
                    await self._close_stream(stream_id)
                    return

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        before = 0 if buffer is None else len(buffer.buffer)
        await super()._send_data(stream_id)
        if buffer is not None:
            self._budget.earn((before - len(buffer.buffer)) * _EARNED_BY_BYTE)

    # Errors of one stream

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            try:
                await super()._handle_events([event])
            except OSError:
                raise
            except Exception as error:
                await self._refuse(event, error)

    async def _refuse(self, event: h2.events.Event, error: Exception) -> None:
        with suppress(h2.exceptions.ProtocolError):
            if isinstance(event, h2.events.RequestReceived) and event.stream_id:
                self._tell("refused a request that Hypercorn cannot read: %r", error)
                await self._forget(event.stream_id)
                self.connection.send_headers(
                    event.stream_id, [(b":status", b"400"), (b"content-length", b"0")], end_stream=True
                )
            elif isinstance(event, h2.events.DataReceived) and event.stream_id:
                # The answer ended before the body: the rest of it still counts in the connection's window.
                self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            else:
                self._tell("Hypercorn failed on %r: %r", event, error)
        await self._flush()

    def _tell(self, message: str, *args: object) -> None:
        if not self._told:  # a client can cause thousands
            self._told = True
            log.warning(message, *args)

    async def _close_stream(self, stream_id: int) -> None:
        known = stream_id in self.streams
        await super()._close_stream(stream_id)
        if not known or self.closed:
            return
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and not buffer._complete:  # broken off, by the app or by the client
            await self._forget(stream_id)
            stream = self.connection.streams.get(stream_id)
            if stream is not None and not stream.closed:
                self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                await self._flush()
        if self.idle:
            await self.send(Updated(idle=True))

    async def _forget(self, stream_id: int) -> None:
        self.streams.pop(stream_id, None)
        if (buffer := self.stream_buffers.get(stream_id)) is not None:
            await buffer.close()  # the sending task removes it
            self.priority.unblock(stream_id)
            await self.has_data.set()
