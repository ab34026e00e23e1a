"""Moments as text: RFC 3339 timestamps that sort."""

from datetime import UTC, datetime, timedelta


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with six digits, so that it sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """The datetime of a `timestamp`."""
    return datetime.fromisoformat(text)


def later(text: str, seconds: float) -> str:
    """The timestamp `seconds` after another."""
    return timestamp(moment(text) + timedelta(seconds=seconds))
