"""The HTTP client for all other services: an httpx.AsyncClient with limits for time, concurrency and size."""

import asyncio
import contextlib
import errno
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
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
"""Errors of a call: `except UPSTREAM_ERRORS as error: raise translate(error) from error`."""

_USER_AGENT = f"quart-async-api/{version('quart-async-api')}"


class DeadlineExceeded(httpx.TimeoutException):
    """The call with its retries and redirects exceeded its deadline."""


class ResponseTooLarge(httpx.RequestError):
    """The decompressed response exceeds the size limit."""


class BlockedAddress(OSError):
    """A redirect led from the public internet to a private address."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "redirected to a private address")


class SchemeChanged(httpx.UnsupportedProtocol):
    """A redirect led from https to http, or from http to https."""


class UpstreamClient(httpx.AsyncClient):
    """An httpx.AsyncClient for all calls of the process. Create one at the start, and `aclose()` it at the end.

    - A call has `upstream_timeout` seconds after it gets its slot, with retries, redirects and reading. Then it raises
      DeadlineExceeded, an httpx.TimeoutException.
    - `upstream_concurrency` calls run at once; further calls wait in order. A streamed response counts until it is closed.
    - A failed call is repeated at most twice, with full jitter, if that is safe: idempotent methods after a broken
      connection, 429, 502, 503 or 504; other methods only if nothing was sent. Retry-After is respected; if it ends after
      the deadline, the response is returned at once.
    - A decompressed response of more than `upstream_max_bytes` bytes raises ResponseTooLarge.
    - Redirects are followed, but not to another scheme (SchemeChanged), and not from a public to a private address
      (httpx.ConnectError).
    - It keeps no cookies, and reads no proxies and no credentials from the environment.

    `headers` is called for each call and returns headers to add, such as the current traceparent. `on_sent`, if set, gets
    each call with its begin in nanoseconds since 1970, and its response or error.
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
            # gzip alone, since its decoder can be told when to stop
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "gzip"},
            trust_env=False,
        )
        self._sent_cookies = _SentCookies()
        self.context_headers = headers
        self._seconds = settings.upstream_timeout
        self._slots = asyncio.Semaphore(settings.upstream_concurrency)
        self.on_sent: Callable[[httpx.Request, int, httpx.Response | BaseException], None] | None = None
        self.waiting = self.in_flight = 0  # calls without a slot, and with one

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies that every call sends: those of a response are not among them."""
        return self._sent_cookies

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._sent_cookies = _SentCookies(cookies)

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request: get, post, stream and all other methods call this one."""
        if self.on_sent is None:
            return await self._send(request, stream=stream, **options)
        began = time.time_ns()
        try:
            response = await self._send(request, stream=stream, **options)
        except BaseException as error:
            self.on_sent(request, began, error)
            raise
        self.on_sent(request, began, response)
        return response

    async def _send(self, request: httpx.Request, *, stream: bool, **options: Any) -> httpx.Response:
        for name, value in self.context_headers().items():
            request.headers.setdefault(name, value)
        if request.url.userinfo:  # becomes a header, so that no log line or exception shows the password
            if options.get("auth", httpx.USE_CLIENT_DEFAULT) is httpx.USE_CLIENT_DEFAULT:
                options["auth"] = httpx.BasicAuth(request.url.username, request.url.password)
            request.url = request.url.copy_with(userinfo=b"")
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            deadline = asyncio.get_running_loop().time() + self._seconds
            request.extensions.setdefault("retry", retry_policy(request))
            request.extensions |= {"deadline": deadline, "scheme": request.url.scheme, "stream": stream}
            request.extensions["from_public"] = False  # until a response is known
            async with _until(deadline, request):
                response = await super().send(request, stream=stream, **options)
            if stream:
                body = cast("httpx.AsyncByteStream", response.stream)
                response.stream = _HeldStream(body, request, deadline, self._release)
        except BaseException:
            self._release()
            raise
        if not stream:
            self._release()
        return response

    def _release(self) -> None:
        self.in_flight -= 1
        self._slots.release()


class _SentCookies(httpx.Cookies):
    """Takes no cookies from responses, and does not look for them: that would be a tenth of the work of a call."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass


class _BoundedTransport(httpx.AsyncBaseTransport):
    """One attempt: refuses another scheme, and reads at most `max_bytes`. It is below the retries, so that an incomplete
    body is repeated like a missing response.

    After a redirect from the public internet, the call uses a second pool, which connects to public addresses only.
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
        # The body of an error is read even for a stream: the connection is then free during the wait for a retry.
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
    """The decompressed bytes of a response. Bytes beyond the limit are never in memory."""

    def __init__(self, response: httpx.Response, request: httpx.Request, max_bytes: int) -> None:
        self._response = response
        self._request = request
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        encoding = self._response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "x-gzip", "identity", ""):
            raise httpx.DecodingError(f"Content-Encoding {encoding!r} was not requested.", request=self._request)
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
            raise httpx.DecodingError("The compressed body is incomplete.", request=self._request)

    async def aclose(self) -> None:
        await self._response.aclose()


class _HeldStream(httpx.AsyncByteStream):
    """The body of a streamed call. It has a deadline, and holds its slot until it is closed."""

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
        raise DeadlineExceeded("The call exceeded its deadline.", request=request) from error


def translate(error: Exception) -> UpstreamError:
    """Return the error of the service for one of UPSTREAM_ERRORS. Its message names only the host of the URL."""
    host = "upstream"
    if isinstance(error, httpx.RequestError | httpx.HTTPStatusError):
        with contextlib.suppress(RuntimeError):  # the error has no request
            host = error.request.url.netloc.decode("ascii") or host  # without `user:password@`
    match error:
        case httpx.TimeoutException():
            return UpstreamTimeout(f"{host} did not respond in time")
        case httpx.HTTPStatusError():
            return UpstreamFailed(f"{host} responded with status {error.response.status_code}")
        case httpx.ConnectError():
            return UpstreamFailed(f"{host} could not be reached")
        case httpx.TooManyRedirects():
            return UpstreamFailed(f"{host} redirected too many times")
        case SchemeChanged():
            return UpstreamFailed(f"{host} is the target of a redirect to another scheme")
        case ResponseTooLarge():
            return UpstreamFailed(f"{host} sent a response that is too large")
        case httpx.DecodingError():
            return UpstreamFailed(f"{host} sent a body that cannot be decoded")
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return UpstreamFailed(f"the request to {host} is invalid")
        case _:
            return UpstreamFailed(f"{host} closed the connection early, or does not speak HTTP")


async def fetch_json(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    missing: UpstreamFailed | None = None,
) -> tuple[int, object]:
    """GET one JSON document, and return its status (2xx) and its value.

    Raises UpstreamTimeout; `missing`, if given, for a 404; otherwise UpstreamFailed, also for JSON that could not be
    passed on: NaN, infinities, lone surrogates, more than 200 levels.
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
        json.dumps(value, allow_nan=False)  # the parser reads 1e999 as infinity
    except ValueError as error:
        raise UpstreamFailed(f"{response.url.netloc.decode('ascii')} sent no usable JSON") from error
    return response.status_code, value
