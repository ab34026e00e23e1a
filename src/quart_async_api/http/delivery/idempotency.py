"""The Idempotency-Key header: one key, one effect, one answer."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from quart import Response, request

from ...errors import FieldError, InvalidInput, KeyInFlight
from ...services.idempotency import Key, Reply, digest
from ..guards.access import caller
from ..parts import parts

HEADER = "Idempotency-Key"
# A structured-field string (RFC 8941 section 3.3.3), or a bare token as many clients send it.
_KEY = re.compile(r'"(?P<quoted>(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|(?P<bare>[\x21\x23-\x7e]{1,255})')


async def sent_key() -> Key | None:
    """Return the key of this request, or None. Raises InvalidInput."""
    values = request.headers.getlist(HEADER)
    if not values:
        return None
    match = _KEY.fullmatch(values[0].strip())
    if match is None or len(values) > 1:
        raise InvalidInput(
            FieldError(f"#/{HEADER}", "1 to 255 visible characters, such as a new UUID in double quotes")
        )
    key = match["bare"] or re.sub(r"\\(.)", r"\1", match["quoted"])
    path = request.path
    return Key(
        digest(caller().key_id or "", request.method, path, key),
        digest(request.method, path, request.query_string, await request.get_data()),
        parts().settings.idempotency_ttl,
        caller().key_id or "",
    )


@contextmanager
def in_flight(key: Key | None) -> Iterator[None]:
    """Hold the key while its first request runs. Raises KeyInFlight if another request holds it."""
    if key is None:
        yield
        return
    held = parts().idempotency.in_flight
    if key.digest in held:
        raise KeyInFlight("the first request with this Idempotency-Key is still running; repeat the request later")
    held.add(key.digest)
    try:
        yield
    finally:
        held.discard(key.digest)


async def kept(key: Key | None) -> Reply | None:
    """Return the stored response of this key, or None. Raises KeyReused."""
    return None if key is None else await parts().idempotency.reply(key)


def given(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers)


def mark(response: Response) -> Response:
    """Mark a response as a repeated one."""
    response.headers["Idempotent-Replayed"] = "true"
    return response


def reply(status: int, headers: dict[str, str], document: object, job_id: str | None = None) -> Reply:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return Reply(status, headers | {"Content-Type": "application/json"}, body, job_id)
