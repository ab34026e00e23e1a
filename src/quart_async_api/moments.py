"""The clock, moments as text (RFC 3339 timestamps that sort), and durations as text (`30`, `90s`, `7d`)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

LONGEST_SECONDS = 10 * 365 * 86_400.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def utc_now() -> datetime:
    """The `Clock` of everything that gets no other."""
    return datetime.now(UTC)


class ServiceClock:
    """The `Clock` of a service: the present, until a test stops it or sets it `ahead`."""

    __slots__ = ("ahead", "stopped_at")

    def __init__(self, stopped_at: datetime | None = None) -> None:
        self.ahead = timedelta(0)
        self.stopped_at = stopped_at

    def __call__(self) -> datetime:
        return (self.stopped_at or datetime.now(UTC)) + self.ahead


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with six digits, so that it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def moment(text: str) -> datetime:
    """The datetime of a `timestamp`."""
    return datetime.fromisoformat(text)


def later(text: str, seconds: float) -> str:
    """The timestamp `seconds` after another."""
    return timestamp(moment(text) + timedelta(seconds=seconds))


def duration(text: str) -> float:
    """The seconds of a number with or without a unit. Raises ValueError, whose message does not show the text."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd]?)", text)
    if match is None or (seconds := float(match[1]) * _UNITS[match[2]]) > LONGEST_SECONDS:
        raise ValueError("must be a duration like 30, 90s, 15m, 12h or 7d (at most ten years)")
    return seconds
