"""Converts the messages of the protocol to and from httpx, for both clients."""

from typing import Any

import httpx

from .messages import Broken, Reply, Request

SILENCE_SECONDS = 45.0  # the service sends a comment every 15 s


def headers(token: str | None) -> dict[str, str]:
    return {"User-Agent": "quart-async-api-client"} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def sent(request: Request, timeout: float) -> dict[str, Any]:
    """Return arguments for httpx. `timeout` is in seconds; the response may take `request.patience` longer."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.params) or None,
        "headers": dict(request.headers),
        "json": request.body,
        "timeout": httpx.Timeout(timeout, read=timeout + request.patience),
    }


def streamed(request: Request, timeout: float) -> dict[str, Any]:
    """Return arguments for an endless response; its connection is dead after `SILENCE_SECONDS` without data."""
    return sent(request, timeout) | {"timeout": httpx.Timeout(timeout, read=SILENCE_SECONDS)}


def reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, response.headers, body)


def broken(error: httpx.TransportError) -> Broken:
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise error  # an error of this client; a repetition would not help
    return Broken(error, sent=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout))
