"""The filters of the list of jobs: in its address, and as the API takes them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from ..moments import timestamp

LIST = "/console/jobs"
FILTERS = ("status", "task", "created_after", "created_before")
_LOCAL = len("2026-11-22T05:10")  # what a browser sends for a date and time; seconds may follow


def given(sent: Mapping[str, str], *others: str) -> dict[str, str]:
    """Return the filters that an address or a form has, and other parameters of these names; empty ones are left out."""
    return {name: value for name in (*FILTERS, *others) if (value := sent.get(name, "").strip())}


def in_full(filters: Mapping[str, str]) -> dict[str, str]:
    """Return the filters with their times in the API's form."""
    return {name: _in_full(value) if name.startswith("created_") else value for name, value in filters.items()}


def _in_full(text: str) -> str:
    """Return what a browser's field for date and time sends as the API's form of it, in UTC."""
    text = f"{text}:00" if len(text) == _LOCAL else text
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if local.tzinfo else timestamp(local.replace(tzinfo=UTC))


def address(filters: Mapping[str, str]) -> str:
    return f"{LIST}?{urlencode(filters)}" if filters else LIST
