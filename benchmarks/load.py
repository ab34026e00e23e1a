"""Load on a server: `wrk` where it is installed, else callers of our own on plain sockets."""

import asyncio
import contextlib
import math
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop

from .machine import LOAD_CORE, on_core
from .rounds import NoFigure
from .servers import Running

CONNECTIONS = 64
WRK = shutil.which("wrk")


@dataclass(frozen=True, slots=True)
class Request:
    """What each caller sends; `{n}` in the body is a number that no other request has."""

    path: str
    method: str = "GET"
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class WrongAnswer(NoFigure):
    """A server answered something else than success: how quickly is of no interest."""


def measured(server: Running, request: Request, seconds: float) -> dict[str, float]:
    """Requests a second, and CPU seconds of the server for 1,000 of them. Raises WrongAnswer."""
    before, run = server.cpu_seconds(), wrk if WRK and seconds >= 1 else own
    count, elapsed = run(server.port, request, CONNECTIONS, seconds)
    return {
        "requests/s": count / elapsed,
        "CPU s per 1,000": (server.cpu_seconds() - before) / count * 1000,
    }


def wrk(port: int, request: Request, connections: int, seconds: float) -> tuple[int, float]:
    """How many requests were answered, and in how many seconds."""
    url = f"http://127.0.0.1:{port}{request.path}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_lua(request))
        script.flush()
        command = [str(WRK), "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "-s", script.name, url]
        with on_core(LOAD_CORE):
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", text)
    if not done or not int(done[1]) or "Non-2xx" in text or re.search(r"(connect|timeout) [1-9]", text):
        raise WrongAnswer(f"{request.method} {request.path}: {' '.join(text.split())[-200:]}")
    return int(done[1]), float(done[2]) * {"ms": 0.001, "s": 1, "m": 60}[done[3]]


def _lua(request: Request) -> str:
    lines = [f'wrk.method = "{request.method}"', *(f'wrk.headers["{k}"] = "{v}"' for k, v in request.headers.items())]
    if "{n}" in request.body:
        before, _, after = request.body.partition("{n}")
        lines += [
            f"local n = {_new_number()}",
            "function request()",
            "  n = n + 1",
            f"  return wrk.format(nil, nil, nil, [[{before}]] .. string.format('%d', n) .. [[{after}]])",
            "end",
        ]
    elif request.body:
        lines.append(f"wrk.body = [[{request.body}]]")
    return "\n".join(lines)


def _new_number() -> int:
    return time.time_ns() // 1000 % 10**12 * 1000  # as doubles, which Lua has, can tell them apart


def own(port: int, request: Request, connections: int, seconds: float) -> tuple[int, float]:
    """As `wrk`, and slower."""
    with on_core(LOAD_CORE):
        return uvloop.run(_callers(port, request, connections, seconds))


class _Caller(asyncio.Protocol):
    """Sends the request again as soon as it is answered, until the time is up."""

    def __init__(self, request: Request, port: int, until: float, failed: list[str]) -> None:
        self.answered = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._until, self._failed, self._number = request, until, failed, _new_number() + id(self) % 1000
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        self._head = f"{request.method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._data = cast("asyncio.Transport", transport), b""
        self._send()

    def _send(self) -> None:
        self._number += 1000
        body = self._request.body.replace("{n}", str(self._number))
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self._transport.write(f"{self._head}{length}\r\n{body}".encode())

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        length = re.search(rb"content-length: *(\d+)", self._data[:end], re.IGNORECASE)
        if end < 4 or not length or len(self._data) < end + int(length[1]):
            return
        if self._data[9:10] != b"2":
            self._failed.append(self._data[:80].decode("latin-1"))
        self.answered, self._data = self.answered + 1, b""
        if time.monotonic() < self._until and not self._failed:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def _callers(port: int, request: Request, connections: int, seconds: float) -> tuple[int, float]:
    loop, failed = asyncio.get_running_loop(), list[str]()
    start = time.monotonic()
    until = start + seconds

    async def caller() -> int:
        answered = 0
        while time.monotonic() < until and not failed:  # a server may close the connection after each answer
            _, one = await loop.create_connection(lambda: _Caller(request, port, until, failed), "127.0.0.1", port)
            await one.ended
            answered += one.answered
        return answered

    count = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds + 10):
            count = sum(await asyncio.gather(*(caller() for _ in range(connections))))
    if failed or not count:
        raise WrongAnswer(f"{request.method} {request.path}: {failed[0] if failed else 'no answer'}")
    return count, time.monotonic() - start


def warm_up(server: Running, request: Request, seconds: float) -> None:
    with contextlib.suppress(WrongAnswer):  # the first turn says so
        own(server.port, request, CONNECTIONS, seconds)


def tool() -> str:
    return (
        f"`wrk` with {CONNECTIONS} connections" if WRK else f"{CONNECTIONS} callers of our own (wrk is not installed)"
    )
