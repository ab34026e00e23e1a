"""Keyset paging: an opaque cursor, and the Link header (RFC 8288) that carries it."""

import base64
import binascii
from urllib.parse import urlencode

from quart import Response, request

from ..errors import FieldError, InvalidInput


def encode_cursor(after: int) -> str:
    return base64.urlsafe_b64encode(str(after).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> int:
    """The id behind a cursor of ours. Raises InvalidInput for any other text."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        after = int(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
        if not 0 <= after < 2**63 or encode_cursor(after) != cursor:
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidInput(FieldError("#/cursor", "Take it from the Link header of the page before")) from None
    return after


def link_next(response: Response, limit: int, cursor: str) -> None:
    """Name the next page."""
    response.headers.add("Link", f'<{request.base_url}?{urlencode({"limit": limit, "cursor": cursor})}>; rel="next"')
