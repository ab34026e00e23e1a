"""HTTP/1.1 as bytes on a socket, for what no client would send."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from typing import Any

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def problem(self) -> str:
        """Which of the pages under /problems/ explains this problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        return str(self.json["type"]).removeprefix("/problems/")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def connection(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection((host, port), PATIENCE) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield link


def receive(link: socket.socket, method: str = "GET") -> Reply:
    """Read one answer; a server that says nothing fails this within PATIENCE seconds."""
    with HTTPResponse(link, method=method) as response:
        response.begin()
        return Reply(response.status, response.msg, response.read())


def is_closed(link: socket.socket) -> bool:
    """Wait until the server says or closes something; whether it has closed the connection, saying nothing."""
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


def head(method: str = "GET", target: str = "/health/live", *fields: str, host: str | None = "localhost") -> bytes:
    """The head of a request, down to its empty line."""
    named = () if host is None else (f"Host: {host}",)
    return "\r\n".join((f"{method} {target} HTTP/1.1", *named, *fields, "", "")).encode("latin-1")


def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> Reply:
    """Send these bytes on a connection of their own, and read one answer."""
    with connection(port, host) as link:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer and close before it has read everything
            link.sendall(request)
        return receive(link)


def get(port: int, target: str, *fields: str) -> Reply:
    return exchange(port, head("GET", target, *fields))


def json_request(target: str, document: object) -> bytes:
    body = json.dumps(document).encode()
    return head("POST", target, "Content-Type: application/json", f"Content-Length: {len(body)}") + body


def post(port: int, target: str, document: object) -> Reply:
    return exchange(port, json_request(target, document))
