"""Ids that sort by time: UUID version 7 (RFC 9562 section 5.7)."""

import os
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(moment: datetime | None = None) -> str:
    """Return a new id: 48 bits of Unix milliseconds, of `moment` or now, and 74 random bits."""
    return _id(moment or datetime.now(UTC), int.from_bytes(os.urandom(10)))


def first_id(moment: datetime) -> str:
    """Return the least id of the millisecond of `moment`. Earlier ids are less."""
    return _id(moment, 0)


def ids_from(digits: str) -> tuple[str, str]:
    """Return the least and the greatest id that begin with these hexadecimal digits, at most 32. They sort in any collation."""
    return _text(digits.ljust(32, "0")), _text(digits.ljust(32, "f"))


def _id(moment: datetime, low: int) -> str:
    value = (moment - _EPOCH) // timedelta(milliseconds=1) << 80 | low
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return _text(f"{value:032x}")


def _text(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
