"""The protocol's messages in the terms of httpx, which both clients share."""

from typing import Any

import httpx

from .messages import Broken, Reply, Request

SILENCE_SECONDS = 45.0  # three of the service's comments missed


def headers(token: str | None) -> dict[str, str]:
    return {"User-Agent": "quart-async-api-client"} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def sent(request: Request, timeout: float) -> dict[str, Any]:
    """The arguments of httpx's `request` and `stream`. `timeout` in seconds, `request.patience` more for the answer."""
    return {
        "method": request.method,
        "url": request.path,
        "params": dict(request.params) or None,
        "headers": dict(request.headers),
        "json": request.body,
        "timeout": httpx.Timeout(timeout, read=timeout + request.patience),
    }


def streamed(request: Request, timeout: float) -> dict[str, Any]:
    """The same for an answer without end, whose connection is dead when nothing comes for long."""
    return sent(request, timeout) | {"timeout": httpx.Timeout(timeout, read=SILENCE_SECONDS)}


def reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, response.headers, body)


def broken(error: httpx.TransportError) -> Broken:
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise error  # our own fault, and no better the next time
    return Broken(error, sent=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout))
