"""The limit: an ASGI app with one answer, and no framework."""

from typing import Any

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"17")]
START = {"type": "http.response.start", "status": 200, "headers": HEADERS}
BODY = {"type": "http.response.body", "body": b'{"status":"pass"}'}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for answer in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{answer}.complete"})
        return
    await send(START)
    await send(BODY)
