"""The connections of aiohttp with the interface of httpx.

The pool of httpcore scans itself on every step, which makes a fan-out quadratic, and a cancelled call can block it for
ever (encode/httpcore#1093). The pool of aiohttp has neither problem.
"""

import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

# The errors of aiohttp, most specific first, with those of httpx for the same failure.
_TWINS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # nothing was sent
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),  # these may have been processed
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionResetError, httpx.WriteError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.NetworkError),
    (ValueError, httpx.LocalProtocolError),  # such as a line break in a header
)


_peer: ContextVar[str | None] = ContextVar("quart_async_api_peer", default=None)
_default_verify = functools.cache(httpx.create_ssl_context)  # takes 20 ms and never changes


class AiohttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 for an httpx.AsyncClient: the exceptions of httpx, the exact URL, bodies streamed in both directions.

    It keeps no cookies, and reads no proxies and no credentials from the environment. It opens one connection per concurrent
    call: the caller must limit them. Before a connection, `socket_factory` gets each resolved or literal address; if it
    raises OSError, the call raises httpx.ConnectError. `resolver` resolves names, for each connection again. The extension
    `peer` of a response is the address that sent it.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | None = None,
        keepalive: float = 15.0,
        socket_factory: Callable[[aiohttp.AddrInfoType], socket.socket] | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._verify = verify or _default_verify()
        self._keepalive = keepalive
        self._socket_factory = socket_factory
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        # aiohttp binds a session to the running loop, so the constructor cannot create it.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(
                    limit=0,
                    keepalive_timeout=self._keepalive,
                    ssl=self._verify,
                    socket_factory=self._socket_factory,
                    resolver=self._resolver,
                    # With the cache of aiohttp, a look-up outlives a call that gave up, and other calls share it.
                    use_dns_cache=self._resolver is None,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return the response before its body is read."""
        headers = CIMultiDict(request.headers.multi_items())
        try:
            body: bytes | httpx.AsyncByteStream | None = request.content or None
        except httpx.RequestNotRead:
            if isinstance(request.stream, httpx.ByteStream):  # from httpx, after a redirect
                body = b"".join(request.stream) or None
            else:
                body = cast("httpx.AsyncByteStream", request.stream)
                headers.pop("Transfer-Encoding", None)  # aiohttp sets its own, and refuses a second one
        timeouts = request.extensions.get("timeout", {})
        with _errors_of_httpx(request):
            response = await self._opened().request(
                request.method,
                _without_credentials(request.url),
                headers=headers,
                data=body,
                allow_redirects=False,
                # There is no waiting for a connection, so `connect` is name resolution, TCP and TLS, as httpx means it.
                timeout=aiohttp.ClientTimeout(connect=timeouts.get("connect"), sock_read=timeouts.get("read")),
            )
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response, request),
            extensions={
                "peer": _peer.get(),
                "http_version": b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
            },
        )

    async def aclose(self) -> None:
        """Close all connections for good, also those in use."""
        await self._opened().close()


class _Connector(aiohttp.TCPConnector):
    """Stores the peer of a call: aiohttp forgets it after a response without a body."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as aiohttp calls it
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        _peer.set(peer[0] if peer else None)
        return connection


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx(self._request):
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()  # the rest of the body would be read as the next response


def _without_credentials(url: httpx.URL) -> URL:
    """Return the exact bytes of `url` without `user:password@`.

    httpx has already made a header of these; aiohttp would add another one and refuse both.
    """
    return URL(f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}", encoded=True)


@contextlib.contextmanager
def _errors_of_httpx(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, ValueError) as error:
        twin = next(twin for kind, twin in _TWINS if isinstance(error, kind))
        raise twin(str(error), request=request) from error
