"""A stand-in for the outside world that can be told to misbehave, path by path."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from enum import Enum, member
from functools import cache, partial

from aiohttp import web

from quart_async_api.demo import StandIn

Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _begun(request: web.Request, **headers: str) -> web.StreamResponse:
    """An answer whose head and first bytes are sent."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    await response.write(b'{"id": ')
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort() if request.query.get("reset") else request.transport.close()


async def _hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _hang_in_body(request: web.Request) -> web.StreamResponse:
    await _begun(request)
    return await _hang(request)


async def _disconnect(request: web.Request) -> web.StreamResponse:
    _cut(request)
    return web.Response()


async def _partial_body(request: web.Request) -> web.StreamResponse:
    response = await _begun(request, **{"Content-Length": "1000"})
    _cut(request)
    return response


async def _partial_chunked(request: web.Request) -> web.StreamResponse:
    response = await _begun(request)
    _cut(request)
    return response


async def _not_http(request: web.Request) -> web.StreamResponse:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    _cut(request)
    return web.Response()


async def _body(request: web.Request, *, body: bytes, **headers: str) -> web.StreamResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=body, headers={"Content-Type": "application/json", **named})


@cache
def _bomb() -> bytes:
    return gzip.compress(b"[" + b" " * 50_000_000 + b"]")


async def _gzip_bomb(request: web.Request) -> web.StreamResponse:
    return await _body(request, body=_bomb(), Content_Encoding="gzip")


async def _redirect_scheme(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"https://{request.host}/api")


async def _redirect_loop(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(str(request.rel_url))


class Fault(Enum):
    """What a path may do instead of answering."""

    # `member`, or from Python 3.13 on a partial would be a method of the class, and there would be no fault to test.

    HANG = member(partial(_hang))
    HANG_IN_BODY = member(partial(_hang_in_body))
    DISCONNECT = member(partial(_disconnect))
    PARTIAL_BODY = member(partial(_partial_body))
    PARTIAL_CHUNKED = member(partial(_partial_chunked))
    NOT_HTTP = member(partial(_not_http))
    HTML = member(partial(_body, body=b"<html>", Content_Type="text/html"))
    INVALID_JSON = member(partial(_body, body=b'{"id": '))
    WRONG_SHAPE = member(partial(_body, body=b'{"num": "1", "title": null}'))
    NAN = member(partial(_body, body=b'{"num": NaN}'))
    INFINITE = member(partial(_body, body=b'{"num": 1e999}'))
    DEEP = member(partial(_body, body=b"[" * 5000 + b"]" * 5000))
    LONE_SURROGATE = member(partial(_body, body=b'["\\ud800"]'))
    EMPTY = member(partial(_body, body=b""))
    HUGE = member(partial(_body, body=b"[" + b" " * 5_000_000 + b"]"))
    GZIP_BOMB = member(partial(_gzip_bomb))
    BROKEN_GZIP = member(partial(_body, body=gzip.compress(b"[" + b" " * 1000 + b"]")[:-10], Content_Encoding="gzip"))
    NO_GZIP = member(partial(_body, body=b"[]", Content_Encoding="gzip"))
    UNASKED_ENCODING = member(partial(_body, body=b"[]", Content_Encoding="br"))
    REDIRECT_TO_OTHER_SCHEME = member(partial(_redirect_scheme))
    REDIRECT_LOOP = member(partial(_redirect_loop))

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        return await self.value(request)


def status(code: int, *, times: int | None = None, **headers: str) -> Misbehaviour:
    """Answer with `code`, the first `times` times or for good; `headers` with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    left = [times]

    async def answer(request: web.Request) -> web.StreamResponse:
        if left[0] == 0:
            return web.json_response({"recovered": True})
        if left[0] is not None:
            left[0] -= 1
        return web.json_response({"error": code}, status=code, headers=named)

    return answer


def in_turn(*misbehaviours: Misbehaviour) -> Misbehaviour:
    """Answer the first request by the first of them, and so on."""
    left = iter(misbehaviours)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await next(left)(request)

    return answer


def document(value: object, **headers: str) -> Misbehaviour:
    """Answer with another JSON document."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(value, headers=named)

    return answer


class FaultyStandIn(StandIn):
    """`faults[path] = Fault.HANG` and the path does that, until it is removed. `seen` and `bodies` keep the requests."""

    def __init__(self, latency: float = 0.0) -> None:
        super().__init__(latency=latency)
        self.faults: dict[str, Misbehaviour] = {}
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.arrived = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.arrived.set()
        if request.can_read_body:
            self.bodies.append(await request.read())
        if fault := self.faults.get(request.path):
            return await fault(request)
        return await super().answer(request)
