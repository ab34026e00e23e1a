"""The one HTTP client for the outside world: an httpx.AsyncClient with bounds on time, calls at once and size."""

import asyncio
import contextlib
import errno
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any, cast

import aiohttp
import httpx
from pydantic_core import from_json

from ..errors import UpstreamError, UpstreamFailed, UpstreamTimeout
from ..settings import Settings
from .addresses import Address, is_public
from .retrying import RetryingTransport, retry_policy
from .transport import AiohttpTransport

UPSTREAM_ERRORS = (httpx.HTTPError, httpx.InvalidURL)
"""What a call may raise: `except UPSTREAM_ERRORS as error: raise translate(error) from error`."""

_USER_AGENT = f"quart-async-api/{version('quart-async-api')}"


class DeadlineExceeded(httpx.TimeoutException):
    """The call, its retries and redirects included, took longer than it may."""


class ResponseTooLarge(httpx.RequestError):
    """The answer, decompressed, has more bytes than are read."""


class BlockedAddress(OSError):
    """A redirect led from the public internet to an address that is not on it."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "redirected to an address that is not on the public internet")


class SchemeChanged(httpx.UnsupportedProtocol):
    """A redirect led from https to http, or the other way."""


class UpstreamClient(httpx.AsyncClient):
    """An httpx.AsyncClient for all calls of the process. Make one at start, `aclose()` it at the end.

    - A call has `upstream_timeout` seconds from when its turn comes, retries, redirects and reading included; past that
      it raises DeadlineExceeded, an httpx.TimeoutException.
    - `upstream_concurrency` calls run at once; more wait, first come first served. A streamed answer counts until it is
      closed.
    - A failed call is repeated at most twice, with full jitter, where that is safe: idempotent methods on a broken
      connection, 429, 502, 503 and 504 (minding Retry-After; one past the deadline is answered at once); the others
      only while nothing was sent.
    - An answer of over `upstream_max_bytes` bytes, decompressed, raises ResponseTooLarge.
    - Redirects are followed, though never to another scheme (SchemeChanged), nor from an address of the public internet
      to one that is not: httpx.ConnectError.
    - It keeps no cookies, and reads no proxies and no credentials from the environment.

    `headers` is asked at each call for headers to add, such as the current request's traceparent.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        transport: httpx.AsyncBaseTransport | None = None,
        is_public: Callable[[Address], bool] = is_public,
    ) -> None:
        bounded = _BoundedTransport(transport, settings.upstream_max_bytes, is_public)
        super().__init__(
            transport=RetryingTransport(bounded),
            timeout=settings.upstream_timeout,
            follow_redirects=True,
            max_redirects=10,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # gzip alone, since its decoder can be told when to stop
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "gzip"},
            trust_env=False,
        )
        self.context_headers = headers
        self._seconds = settings.upstream_timeout
        self._slots = asyncio.Semaphore(settings.upstream_concurrency)

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Every call comes through here: get, post, stream and the rest."""
        for name, value in self.context_headers().items():
            request.headers.setdefault(name, value)
        if request.url.userinfo:  # a header from here on, so that no log line or exception shows the password
            if options.get("auth", httpx.USE_CLIENT_DEFAULT) is httpx.USE_CLIENT_DEFAULT:
                options["auth"] = httpx.BasicAuth(request.url.username, request.url.password)
            request.url = request.url.copy_with(userinfo=b"")
        await self._slots.acquire()
        try:
            deadline = asyncio.get_running_loop().time() + self._seconds
            request.extensions.setdefault("retry", retry_policy(request))
            request.extensions |= {"deadline": deadline, "scheme": request.url.scheme, "stream": stream}
            request.extensions["from_public"] = False  # until an answer tells
            async with _until(deadline, request):
                response = await super().send(request, stream=stream, **options)
            if stream:
                body = cast("httpx.AsyncByteStream", response.stream)
                response.stream = _HeldStream(body, request, deadline, self._slots.release)
        except BaseException:
            self._slots.release()
            raise
        if not stream:
            self._slots.release()
        return response


class _BoundedTransport(httpx.AsyncBaseTransport):
    """One attempt: refuses another scheme, and reads no more than `max_bytes`. Below the retries, so that a body that
    breaks off is repeated like an answer that never came.

    A call that an answer of the public internet redirects goes on through connections of their own, which lead nowhere else.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None, max_bytes: int, is_public: Callable[[Address], bool]
    ) -> None:
        self._transport = transport or AiohttpTransport()
        self._public = transport or AiohttpTransport(socket_factory=self._public_socket)
        self._max_bytes = max_bytes
        self._is_public = is_public

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme != request.extensions["scheme"]:
            raise SchemeChanged("Redirected to another scheme.", request=request)
        is_public = request.extensions["from_public"]
        response = await (self._public if is_public else self._transport).handle_async_request(request)
        if not is_public and (peer := response.extensions.get("peer")):
            request.extensions["from_public"] = self._is_public(ip_address(peer.partition("%")[0]))
        body: httpx.AsyncByteStream = _BoundedBody(response, request, self._max_bytes)
        # An error's body is read although a stream was asked for: the connection is free during the wait for a retry.
        if response.is_error or not request.extensions["stream"]:
            try:
                body = httpx.ByteStream(b"".join([chunk async for chunk in body]))
            finally:
                await response.aclose()
        headers = response.headers.copy()
        if "Content-Encoding" in headers:
            del headers["Content-Encoding"]
            headers.pop("Content-Length", None)
        return httpx.Response(
            response.status_code, headers=headers, stream=body, extensions=response.extensions, request=request
        )

    def _public_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._is_public(ip_address(str(address[0]).partition("%")[0])):
            raise BlockedAddress
        return socket.socket(family, kind, protocol)

    async def aclose(self) -> None:
        await self._transport.aclose()
        if self._public is not self._transport:
            await self._public.aclose()


class _BoundedBody(httpx.AsyncByteStream):
    """The decompressed bytes of an answer, of which a bomb's excess is never even held in memory."""

    def __init__(self, response: httpx.Response, request: httpx.Request, max_bytes: int) -> None:
        self._response = response
        self._request = request
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        encoding = self._response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "x-gzip", "identity", ""):
            raise httpx.DecodingError(f"Content-Encoding {encoding!r} was not asked for.", request=self._request)
        gunzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
        read = 0
        started = False
        async for raw in cast("httpx.AsyncByteStream", self._response.stream):
            started = True
            try:
                chunk = gunzip.decompress(raw, self._max_bytes - read + 1) if gunzip else raw
            except zlib.error as error:
                raise httpx.DecodingError(str(error), request=self._request) from error
            read += len(chunk)
            if read > self._max_bytes:
                raise ResponseTooLarge(f"More than {self._max_bytes} bytes.", request=self._request)
            yield chunk
        if gunzip and started and not gunzip.eof:
            raise httpx.DecodingError("The compressed body breaks off.", request=self._request)

    async def aclose(self) -> None:
        await self._response.aclose()


class _HeldStream(httpx.AsyncByteStream):
    """The body of a streamed call: under its deadline, and holding its slot until it is closed."""

    def __init__(
        self, stream: httpx.AsyncByteStream, request: httpx.Request, deadline: float, release: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._request = request
        self._deadline = deadline
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            async with _until(self._deadline, self._request):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._release()


@contextlib.asynccontextmanager
async def _until(deadline: float, request: httpx.Request) -> AsyncIterator[None]:
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded("The call took longer than it may.", request=request) from error


def translate(error: Exception) -> UpstreamError:
    """The service's error for one of UPSTREAM_ERRORS. Its message names the host, and never credentials, path or query."""
    host = "upstream"
    if isinstance(error, httpx.RequestError | httpx.HTTPStatusError):
        with contextlib.suppress(RuntimeError):  # raised where no request was set
            host = error.request.url.netloc.decode("ascii") or host  # httpx leaves `user:password@` out of it
    match error:
        case httpx.TimeoutException():
            return UpstreamTimeout(f"{host} did not answer in time")
        case httpx.HTTPStatusError():
            return UpstreamFailed(f"{host} answered with status {error.response.status_code}")
        case httpx.ConnectError():
            return UpstreamFailed(f"{host} could not be reached")
        case httpx.TooManyRedirects():
            return UpstreamFailed(f"{host} redirected too many times")
        case SchemeChanged():
            return UpstreamFailed(f"{host} was redirected to by another scheme")
        case ResponseTooLarge():
            return UpstreamFailed(f"{host} answered with more bytes than are read")
        case httpx.DecodingError():
            return UpstreamFailed(f"{host} answered with a body that cannot be decoded")
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return UpstreamFailed(f"the request to {host} is not a valid one")
        case _:
            return UpstreamFailed(f"{host} broke off, or does not speak HTTP")


async def fetch_json(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    missing: UpstreamFailed | None = None,
) -> tuple[int, object]:
    """GET one JSON document; its status (2xx) and its value.

    Raises UpstreamTimeout; `missing`, where given, for a 404; else UpstreamFailed, also for what is no JSON that could
    be sent on: NaN, infinities, lone surrogates, more than 200 levels.
    """
    try:
        response = await client.get(url, headers=headers)
        if response.status_code == 404 and missing is not None:
            raise missing
        response.raise_for_status()
    except UPSTREAM_ERRORS as error:
        raise translate(error) from error
    try:
        value: object = from_json(response.content, allow_inf_nan=False)
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinity all the same
    except ValueError as error:
        raise UpstreamFailed(f"{response.url.netloc.decode('ascii')} answered with no usable JSON") from error
    return response.status_code, value
