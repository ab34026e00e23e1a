"""The receiver's side of callbacks (Standard Webhooks 1.0): is this from the service, and from now?"""

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
    """A dict, or the headers of a request in any framework."""

    def items(self) -> Iterable[tuple[str, str]]: ...


def verify(
    headers: Headers,
    body: bytes | str,
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """The callback as JSON, once its signature and its time are right. Raises InvalidSignature.

    `body` is what came, byte for byte. `secret` is `whsec_…`, or several of them while one takes the place of another.
    `tolerance` is in seconds, both ways. A secret that is none raises ValueError, whatever came.
    """
    keys = [_key(text) for text in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("no secret to verify with")
    raw = _bytes(body) if isinstance(body, str) else body
    sent = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (_header(sent, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not _SECONDS.fullmatch(timestamp):
        raise InvalidSignature("webhook-timestamp is no whole number of seconds")
    if abs(age := now() - int(timestamp)) > tolerance:
        side = "ago" if age > 0 else "in the future"
        raise InvalidSignature(
            f"it was signed {abs(age):.0f} s {side}, more than {tolerance:g} s; are both clocks right?"
        )
    given = [_bytes(part) for part in signatures.split() if part.startswith("v1,")]
    if not given:
        raise InvalidSignature("webhook-signature holds no v1 signature")
    signed = _bytes(f"{message_id}.{timestamp}.") + raw
    right = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    if not any(hmac.compare_digest(one, other) for one in right for other in given):
        raise InvalidSignature("no signature fits: another secret, or not the body or the id that was signed")
    return _document(raw)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"a secret is {_PREFIX} and base64")
    return key


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # whatever came: it is to be refused, not to raise something else


def _header(sent: dict[str, str], name: str) -> str:
    if value := sent.get(name):
        return value
    raise InvalidSignature(f"there is no {name} header")


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidSignature("the body is no JSON object")
    return document
