"""The receiver's side of callbacks (Standard Webhooks 1.0): checks signature and time."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .errors import InvalidSignature

TOLERANCE = 300.0
_PREFIX = "whsec_"
_SECONDS = re.compile(r"[0-9]{1,12}")


class Headers(Protocol):
    """A dict, or the headers of a request in a web framework."""

    def items(self) -> Iterable[tuple[str, str]]: ...


def verify(
    headers: Headers,
    body: bytes | str,
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Check the signature and the time of a callback, and return its JSON. Raises InvalidSignature.

    `body` is the received body, unchanged. `secret` is `whsec_…`, or several secrets during a rotation. `tolerance` is in
    seconds, into the past and the future. Raises ValueError for an invalid secret.
    """
    keys = [_key(text) for text in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("at least one secret is needed")
    raw = _bytes(body) if isinstance(body, str) else body
    sent = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (_header(sent, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not _SECONDS.fullmatch(timestamp):
        raise InvalidSignature("webhook-timestamp is not a whole number of seconds")
    if abs(age := now() - int(timestamp)) > tolerance:
        side = "ago" if age > 0 else "in the future"
        raise InvalidSignature(
            f"signed {abs(age):.0f} s {side}; at most {tolerance:g} s are allowed: check both clocks"
        )
    given = [_bytes(part) for part in signatures.split() if part.startswith("v1,")]
    if not given:
        raise InvalidSignature("webhook-signature has no v1 signature")
    signed = _bytes(f"{message_id}.{timestamp}.") + raw
    right = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    if not any(hmac.compare_digest(one, other) for one in right for other in given):
        raise InvalidSignature("no signature matches: the secret is another one, or the body or the id was changed")
    return _document(raw)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"a secret consists of {_PREFIX} and base64")
    return key


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # so that any text is refused, instead of raising another error


def _header(sent: dict[str, str], name: str) -> str:
    if value := sent.get(name):
        return value
    raise InvalidSignature(f"the header {name} is missing")


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidSignature("the body is not a JSON object")
    return document
