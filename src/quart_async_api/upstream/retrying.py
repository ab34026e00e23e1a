"""When a call to another service is repeated, and how long it waits before."""

import asyncio
import contextlib
from typing import cast

import httpx
from httpx_retries import Retry, RetryTransport

_RETRIES = 2
_BACKOFF = 0.1  # seconds: random pauses of up to 0.2 s, then up to 0.4 s


class _Backoff(Retry):
    """Waits for the time in Retry-After, else for a random time; gives up if the wait would exceed the deadline."""

    async def asleep(self, response: httpx.Response | Exception) -> None:
        seconds = self.backoff_strategy()
        if isinstance(response, httpx.Response) and (retry_after := response.headers.get("Retry-After")):
            with contextlib.suppress(ValueError):
                seconds = self.parse_retry_after(retry_after)
        request = cast("httpx.Response | httpx.RequestError", response).request
        if asyncio.get_running_loop().time() + seconds >= request.extensions["deadline"]:
            raise response if isinstance(response, Exception) else _GaveUp(response)
        await asyncio.sleep(seconds)


_REPEAT = _Backoff(total=_RETRIES, backoff_factor=_BACKOFF)


def retry_policy(request: httpx.Request) -> Retry:
    """Return when to repeat a request: always if it is idempotent, otherwise only if nothing was sent."""
    if request.method in Retry.RETRYABLE_METHODS and isinstance(request.stream, httpx.ByteStream):
        return _REPEAT
    return _Backoff(
        total=_RETRIES,
        backoff_factor=_BACKOFF,
        allowed_methods=[request.method],
        status_forcelist=[0],  # none: an empty list would mean the default
        retry_on_exceptions=[httpx.ConnectError, httpx.ConnectTimeout],
    )


class _GaveUp(Exception):
    def __init__(self, response: httpx.Response) -> None:
        self.response = response


class RetryingTransport(RetryTransport):
    """Repeats a call by its `retry` extension until its `deadline`, then returns the last response."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except _GaveUp as outcome:
            response = outcome.response  # closed, but its body was read before
            return httpx.Response(
                response.status_code, headers=response.headers, stream=response.stream, extensions=response.extensions
            )
