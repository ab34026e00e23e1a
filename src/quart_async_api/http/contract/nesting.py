"""The limit on nested levels in the JSON of a request."""

import re
from itertools import accumulate

from ...errors import NestingTooDeep

LEVELS = 100  # of JSON
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')  # of JSON; possessive: no text is tried twice
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level in, and out (-1 as a signed byte)
_NO_STEPS = bytes(set(range(256)) - set(b"[{]}"))


def check_nesting(body: bytes) -> None:
    """Raise NestingTooDeep for JSON of more than LEVELS levels. `body` must be well-formed: parse it first."""
    if body.count(b"[") + body.count(b"{") <= LEVELS:  # for most bodies, counting is enough
        return
    steps = memoryview(_STRING.sub(b"", body).translate(_STEPS, _NO_STEPS)).cast("b")
    if any(depth > LEVELS for depth in accumulate(steps)):
        raise too_deep()


def too_deep() -> NestingTooDeep:
    return NestingTooDeep(f"the JSON may have {LEVELS} levels of objects and arrays in one another")
