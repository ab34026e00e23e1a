"""A request of Quart's that is made at a low price: header fields are decoded when something reads them, and a body that
nothing waits for needs no events."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import cached_property, lru_cache
from typing import Any, Self, cast
from urllib.parse import urlsplit

from quart import Request
from quart.asgi import _normalise_path
from quart.wrappers.request import Body
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.utils import get_current_url, get_host

_LONGEST_KEPT = 64  # of a path, or the name of a header field: clients choose them, and could fill the memory


class ArrivingBody(Body):
    """A body that is taken from the server by its reader. Without `take`, something else adds to it, as Quart does."""

    take: Callable[[], Awaitable[None]] | None = None

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        # Quart makes two events for each body, which are 1.5 kB.
        self._data = bytearray()
        self._max_content_length = max_content_length
        self._is_complete = False
        self._changed: asyncio.Event | None = None
        is_long = None not in (expected_content_length, max_content_length) and (
            cast("int", expected_content_length) > cast("int", max_content_length)
        )
        self._must_raise = RequestEntityTooLarge() if is_long else None

    def __await__(self) -> Generator[Any, None, Any]:
        while not self._is_complete and self._must_raise is None:
            yield from self._arrive().__await__()
        if self._must_raise is not None:
            raise self._must_raise
        return bytes(self._data)

    async def __anext__(self) -> bytes:
        if self._must_raise is not None:
            raise self._must_raise
        while not self._is_complete and not self._data:
            await self._arrive()
        if not self._data:
            raise StopAsyncIteration
        data = bytes(self._data)
        self._data.clear()
        return data

    def append(self, data: bytes) -> None:
        if not data or self._must_raise is not None:
            return
        self._data.extend(data)
        if self._max_content_length is not None and len(self._data) > self._max_content_length:
            self._must_raise = RequestEntityTooLarge()
            self._is_complete = True
        self._wake()

    def set_complete(self) -> None:
        self._is_complete = True
        self._wake()

    async def _arrive(self) -> None:
        """Wait until more has arrived."""
        if self.take is not None:
            await self.take()
        else:
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class SentHeaders(Headers):
    """The header fields of a request. Until something reads or changes all of them, they stay as they were sent."""

    def __init__(self, scope: Any) -> None:
        self._scope = scope
        sent = scope["headers"]
        for _, value in sent:
            if b"\n" in value or b"\r" in value:
                raise ValueError("a header value of the request has a line break")
        self._sent: dict[bytes, bytes] | None = dict(reversed(sent))  # the first of each name
        self._sent[b"remote-addr"] = _address(scope).encode("latin1")

    @property
    def _list(self) -> list[tuple[str, str]]:
        if self._sent is not None:
            self._sent = None
            self._decoded = [("Remote-Addr", _address(self._scope))]
            for name, value in self._scope["headers"]:
                written = _named(name) if len(name) <= _LONGEST_KEPT else _title(name)
                self._decoded.append((written, value.decode("latin1")))
        return self._decoded

    @_list.setter
    def _list(self, fields: list[tuple[str, str]]) -> None:
        self._sent, self._decoded = None, fields

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]
        """Return the first field of this name. An absent one costs no exception."""
        if type is not None:
            return super().get(key, default, type)
        wanted = key.lower()
        if self._sent is not None:
            value = self._sent.get(wanted.encode("latin1", "replace"))
            return default if value is None else value.decode("latin1")
        for name, text in self._list:
            if name.lower() == wanted:
                return text
        return default


def _address(scope: Any) -> str:
    return cast("str", (scope.get("client") or ("<local>",))[0])


@lru_cache(maxsize=1024)
def _blueprints(endpoint: str) -> list[str]:
    """Return the blueprints of an endpoint, its own first."""
    found = []
    while "." in endpoint:
        endpoint = endpoint.rpartition(".")[0]
        found.append(endpoint)
    return found


@lru_cache(maxsize=256)
def _url(scheme: str, host: str | None, server: tuple[str, int | None] | None, root_path: str, path: str) -> str:
    """Return the URL without its query, as werkzeug does."""
    return get_current_url(scheme, get_host(scheme, host, server), root_path, path)


def _title(name: bytes) -> str:
    """Return the name of a header field as Quart writes it."""
    return name.decode("latin1").title()


_named = lru_cache(maxsize=1024)(_title)


class ArrivingRequest(Request):
    body_class = ArrivingBody
    _form = _files = None

    @classmethod
    def of(cls, scope: Any, config: Any, send_push_promise: Any) -> Self:
        """Return the request that Quart would make of this scope, with the same attributes."""
        request = cls.__new__(cls)
        request.scope = scope
        request.headers = headers = SentHeaders(scope)
        request.http_version = scope["http_version"]
        if request.http_version < "1.1":
            headers.setdefault("Host", config["SERVER_NAME"] or "")
        path, root_path = scope["path"], scope.get("root_path", "")
        if not path.startswith("/"):
            path = urlsplit(path).path
        if root_path:
            path = _normalise_path(path, root_path)
        request.path = "/" + path.lstrip("/")
        request.root_path = root_path.rstrip("/")
        request.method = scope["method"].upper()
        request.scheme = scope["scheme"]
        request.server = scope.get("server")
        request.query_string = scope["query_string"]
        request.remote_addr = _address(scope)
        request.body_timeout = config["BODY_TIMEOUT"]
        length = request.content_length if "Content-Length" in headers else None
        request.body = cls.body_class(length, config["MAX_CONTENT_LENGTH"])
        request._cached_json = {False: ..., True: ...}
        request._send_push_promise = send_push_promise
        return request

    @cached_property
    def _parsing_lock(self) -> asyncio.Lock:  # type: ignore[override]
        return self.lock_class()

    @property
    def base_url(self) -> str:
        if self.trusted_hosts is not None or len(self.path) > _LONGEST_KEPT:
            return super().base_url
        return _url(self.scheme, self.headers.get("Host"), self.server, self.root_path, self.path)

    @property
    def blueprints(self) -> list[str]:
        return [] if self.url_rule is None else _blueprints(self.url_rule.endpoint)
