"""How long the head of a request may be, how deep its JSON, and how many streams are open at once."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from quart import Quart, request, websocket
from quart.asgi import ASGIWebsocketConnection
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import RequestHeaderFieldsTooLarge, RequestURITooLarge

from ..errors import NestingTooDeep, QuotaExceeded, TooManyStreams
from ..settings import Settings

LEVELS = 100  # of JSON
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')  # of JSON; possessive: no text is tried twice
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level in, and out (-1 as a signed byte)
_NO_STEPS = bytes(set(range(256)) - set(b"[{]}"))
_FIELD_SYNTAX = len(": \r\n")
_KEPT_OF = 100  # streams, one that is kept
_RETRY_SECONDS = 5  # after which one of a caller's streams may well have ended
_MESSAGES = 10  # of a WebSocket's client, that wait to be read


def bound_heads(app: Quart, settings: Settings) -> None:
    """Refuse a head that is too long before anything looks at what is in it."""

    def check(asked: BaseRequestWebsocket) -> None:
        scope = asked.scope or {}
        if max(len(scope["query_string"]), len(scope.get("raw_path") or b"")) > settings.max_query_bytes:
            raise RequestURITooLarge(f"The query and the path may be {settings.max_query_bytes} bytes long each.")
        size = sum(len(name) + len(value) + _FIELD_SYNTAX for name, value in scope["headers"])
        if size > settings.max_header_bytes:
            raise RequestHeaderFieldsTooLarge(
                f"The header fields may be {settings.max_header_bytes} bytes long in all; these are {size}."
            )

    @app.before_request
    async def check_request() -> None:
        check(request)

    @app.before_websocket
    async def check_websocket() -> None:
        check(websocket)


def check_nesting(body: bytes) -> None:
    """Raises NestingTooDeep for JSON of more than LEVELS levels. `body` has been parsed: it is well-formed."""
    if body.count(b"[") + body.count(b"{") <= LEVELS:  # most bodies need no look inside
        return
    steps = memoryview(_STRING.sub(b"", body).translate(_STEPS, _NO_STEPS)).cast("b")
    if any(depth > LEVELS for depth in accumulate(steps)):
        raise too_deep()


def too_deep() -> NestingTooDeep:
    return NestingTooDeep(f"the JSON may have {LEVELS} levels of objects and arrays in one another")


class Stream:
    """A place among the streams that are open, held for as long as this lives and is not closed."""

    __slots__ = ("__weakref__", "share")

    def __init__(self, share: "WeakSet[Stream]") -> None:
        self.share = share  # the places of the same caller, which live as long as one of them


class Streams:
    """The event streams and WebSockets that this process holds open: at most `most`, and `share` for one caller (0: any).

    The last hundredth, and one place at least, is kept for administrators.
    """

    def __init__(self, most: int, share: int = 0) -> None:
        self.share = share
        self._most = most
        self._kept = -(-most // _KEPT_OF) if most > 1 else 0
        # Weak, so that whoever hangs up before the first byte of a stream leaves no place taken.
        self._open: WeakSet[Stream] = WeakSet()
        self._shares: WeakValueDictionary[str, WeakSet[Stream]] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._open)

    def left(self, owner: str) -> int:
        """Places of its share that the caller `owner` may still take."""
        return max(0, self.share - len(self._shares.get(owner, ())))

    def open(self, owner: str | None = None, *, is_admin: bool = True) -> Stream:
        """Take a place; `owner` is whose share counts, None: nobody's. Raises QuotaExceeded, TooManyStreams."""
        share: WeakSet[Stream] = WeakSet() if owner is None else self._shares.setdefault(owner, WeakSet())
        if owner is not None and 0 < self.share <= len(share):
            detail = f"{self.share} event streams and WebSockets are open already for this caller"
            raise QuotaExceeded("streams", detail, _RETRY_SECONDS)
        if len(self._open) >= self._most - (0 if is_admin else self._kept):
            kept = "" if is_admin else f", {self._kept} of them kept for administrators"
            raise TooManyStreams(f"at most {self._most} event streams and WebSockets may be open{kept}")
        stream = Stream(share)
        share.add(stream)
        self._open.add(stream)
        return stream

    @contextmanager
    def closing(self, stream: Stream) -> Iterator[None]:
        try:
            yield
        finally:
            stream.share.discard(stream)
            self._open.discard(stream)


class BoundedWebsocket(ASGIWebsocketConnection):
    """One whose client is not read any further while it has sent more than is looked at; Quart's own queue takes it all."""

    def __init__(self, app: Quart, scope: Any) -> None:
        super().__init__(app, scope)
        self.queue = asyncio.Queue(_MESSAGES)

    async def handle_messages(self, receive: Any) -> None:
        async def filled() -> Any:
            event = await receive()
            if event["type"] == "websocket.receive" and not event.get("bytes") and event.get("text") is None:
                event = {**event, "text": ""}  # an empty binary message, which Quart cannot tell from none
            return event

        await super().handle_messages(filled)
