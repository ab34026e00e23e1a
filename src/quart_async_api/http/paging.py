"""Keyset paging: an opaque cursor, and the Link header (RFC 8288) that carries it."""

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from quart import request

from ..errors import FieldError, InvalidInput, PageTooLarge
from ..services.idempotency import digest

LINKED = {"Link": '`rel="first"`, and `rel="next"` while there is more'}
_ID_DIGITS = 19  # of 2**63
_UNKNOWN = FieldError("#/cursor", "Copy it, with the other parameters, from the link of the previous page")


@dataclass(frozen=True, slots=True)
class PageSize:
    """The maximum page size, as an annotation of a `limit`. A larger limit raises PageTooLarge."""

    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "maximum": self.most}

    def _check(self, limit: int) -> int:
        if limit > self.most:
            raise PageTooLarge(FieldError("#/limit", f"Input should be less than or equal to {self.most}"))
        return limit


def encode_cursor(after: int) -> str:
    return _encode(str(after))


def decode_cursor(cursor: str) -> int:
    """Return the id in a cursor of this service. Raises InvalidInput for any other text."""
    after = _number(_decode(cursor))
    if encode_cursor(after) != cursor:
        raise InvalidInput(_UNKNOWN)
    return after


def encode_job_cursor(job_id: str, filters: Mapping[str, str | None]) -> str:
    """The last id of a page of jobs, and its filters: the next page must have the same."""
    return _encode(f"{job_id} {_mark(filters)}")


def decode_job_cursor(cursor: str, filters: Mapping[str, str | None]) -> str:
    """Return the id in a job cursor. Raises InvalidInput for an unknown cursor, or one with other filters."""
    job_id = _last_of(cursor, filters)
    try:
        uuid.UUID(job_id)
    except ValueError:
        raise InvalidInput(_UNKNOWN) from None
    return job_id


def encode_callback_cursor(callback_id: int, filters: Mapping[str, str | None]) -> str:
    """Do the same for a page of callbacks."""
    return _encode(f"{callback_id} {_mark(filters)}")


def decode_callback_cursor(cursor: str, filters: Mapping[str, str | None]) -> int:
    """Return the id in a cursor of callbacks. Raises InvalidInput like `decode_job_cursor`."""
    return _number(_last_of(cursor, filters))


def _last_of(cursor: str, filters: Mapping[str, str | None]) -> str:
    last, _, mark = _decode(cursor).partition(" ")
    if mark != _mark(filters):
        raise InvalidInput(_UNKNOWN)
    return last


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS and int(text) < 2**63):
        raise InvalidInput(_UNKNOWN)
    return int(text)


def page_links(limit: int, cursor: str | None) -> tuple[str | None, dict[str, str]]:
    """Return the URL of the page at `cursor`, if there is one, and the Link header with it and the first page."""
    arguments = f"limit={limit}"
    if request.query_string:
        sent = request.args.to_dict() | {"limit": str(limit)}
        sent.pop("cursor", None)
        arguments = urlencode(sent)
    first = f"{request.base_url}?{arguments}"
    if cursor is None:
        return None, {"Link": f'<{first}>; rel="first"'}
    following = f"{first}&cursor={cursor}"
    return following, {"Link": f'<{following}>; rel="next", <{first}>; rel="first"'}


def _mark(filters: Mapping[str, str | None]) -> str:
    return digest(json.dumps(filters, sort_keys=True))[:8]


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode(cursor: str) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        raise InvalidInput(_UNKNOWN) from None
