"""Requests of any bytes, as no HTTP client would send them, to an app in this process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quart import Quart


@dataclass
class Answer:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


async def ask(
    app: Quart,
    method: str,
    path: str,
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
) -> Answer:
    """Send one request, and hang up once its answer has begun if it has no end. Raises what the app raises."""
    answer = Answer()
    begun = asyncio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            streams = any(value.startswith(b"text/event-stream") for _, value in message["headers"])
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body"):
                begun.set()
            return
        else:
            return
        if streams:
            begun.set()

    named = [(b"host", b"localhost"), *headers]
    if not any(name == b"content-length" for name, _ in headers):
        named.append((b"content-length", str(len(body)).encode()))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": query,
        "root_path": "",
        "headers": named,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    return answer
