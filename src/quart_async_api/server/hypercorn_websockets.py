"""Uses of Hypercorn's and wsproto's private parts, to correct their handling of WebSockets."""

import asyncio
import logging
from collections.abc import Generator
from typing import Any

from hypercorn.protocol import ws_stream
from hypercorn.protocol.events import Body, Data, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from wsproto import connection
from wsproto.events import CloseConnection, Message, Ping, Pong
from wsproto.events import Event as Frame
from wsproto.frame_protocol import CloseReason

from .budget import Budget

log = logging.getLogger(__name__)

_LINGER_SECONDS = 2.0  # time for the client to read the close code
_FRAMES_AT_ONCE = 500  # control frames and fragments: the rate limit counts only messages
_FRAMES_PER_SECOND = 50.0


class TooManyFrames(Exception):
    """The client sent more control frames and fragments than its budget allows."""


class Handshake(ws_stream.Handshake):
    """Accepts no extension: wsproto decompresses a message before its length is checked."""

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None


class Connection(connection.Connection):
    """Limits the frames that the app does not see: pings, pongs, and fragments of messages."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._budget = Budget(_FRAMES_AT_ONCE, _FRAMES_PER_SECOND)
        super().__init__(*args, **options)

    def events(self) -> Generator[Frame, None, None]:
        """Raises TooManyFrames."""
        for event in super().events():
            is_fragment = isinstance(event, Message) and event.frame_finished and not event.message_finished
            if (is_fragment or isinstance(event, Ping | Pong)) and not self._budget.take():
                raise TooManyFrames
            yield event


class WebSocket(ws_stream.WSStream):
    """Ends after a message that is too long: Hypercorn would keep all further data in its buffer and wsproto's.

    Ends after an invalid handshake, or data before its answer: Hypercorn answers 400, but neither closes the connection
    nor informs the app. Ends after too many frames without a message, and parses no further data.
    """

    _refused = False
    _floods = False

    async def handle(self, event: StreamEvent) -> None:
        if self._refused and isinstance(event, Body | Data):
            await self._drop(event.data)
            return
        was_open = not self.closed
        try:
            await super().handle(event)
        except TooManyFrames:
            log.warning("closed a WebSocket of %s that sent too many control frames or fragments", self.client)
            self._floods = True
            await self._send_wsproto_event(CloseConnection(code=CloseReason.POLICY_VIOLATION))
            await self._leave()
            return
        if was_open and self.closed and not isinstance(event, StreamClosed):
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": CloseReason.ABNORMAL_CLOSURE.value})
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        if not self._refused and self.buffer.length > self.buffer.max_length:
            await self._leave()
            await self._drop(b"")

    async def _leave(self) -> None:
        self._refused = True
        self.buffer.clear()
        await super().handle(StreamClosed(stream_id=self.stream_id))  # the app sees the end
        self.task_group.spawn(self._part)

    async def _drop(self, data: bytes) -> None:
        if self._floods:
            return
        self.connection.receive_data(data)
        try:
            if any(isinstance(event, CloseConnection) for event in self.connection.events()):
                await self.send(StreamClosed(stream_id=self.stream_id))
        except TooManyFrames:
            self._floods = True

    async def _part(self) -> None:
        await asyncio.sleep(_LINGER_SECONDS)
        await self.send(StreamClosed(stream_id=self.stream_id))
