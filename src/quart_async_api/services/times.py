"""Times in requests (RFC 3339), with a zone and within the years that can be stored."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9001, 1, 1, tzinfo=UTC)
# RFC 3339, in years that sort as text and have a UTC time.
_MOMENT = (
    r"^(?:19[7-9]\d|[2-8]\d{3}|9000)-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
)


def _is_told_in_full(sent: object) -> object:
    if not (isinstance(sent, str) and re.fullmatch(_MOMENT, sent, re.ASCII)):
        raise ValueError("Must be a time with zone like 2026-11-21T07:32:57Z, between the years 1970 and 9000")
    return sent


def _is_in_range(moment: datetime) -> datetime:
    if not _FIRST <= moment < _LAST:
        raise ValueError("Must be a time between the years 1970 and 9000, in UTC")
    return moment


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_is_told_in_full),
    AfterValidator(_is_in_range),
    Field(json_schema_extra={"pattern": _MOMENT}),
]
