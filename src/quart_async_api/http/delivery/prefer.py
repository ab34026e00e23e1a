"""The Prefer header (RFC 7240): the preferences that this service applies."""

import re
from dataclasses import dataclass

WAIT_LIMIT = 30  # seconds; below the timeouts of common proxies

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - as RFC 9110 calls it
_WORD = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*+")'
_PAIR = rf"{_TOKEN}(?:\s*+=\s*+{_WORD})?"
# Possessive throughout, and an open quote goes to the end: no header makes it try the same text twice.
_PREFERENCE = re.compile(
    rf"\s*+(?P<name>{_TOKEN})(?:\s*+=\s*+(?P<value>{_WORD})?)?(?:\s*+;\s*+(?:{_PAIR})?+)*+\s*+", re.DOTALL
)
_ITEM = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Preferences:
    """Preferences. `wait` is in seconds, within the limit; None if absent or invalid."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def applied(self) -> str:
        """Return the value of Preference-Applied if all preferences were applied."""
        named = ["respond-async"] if self.respond_async else []
        return ", ".join([*named, *([] if self.wait is None else [f"wait={self.wait}"])])


_NONE = Preferences()


def parse(header: str) -> Preferences:
    """Parse all Prefer lines, joined by commas. The first of duplicates counts. Malformed preferences are ignored."""
    if not header:
        return _NONE
    found: dict[str, str] = {}
    for item in _ITEM.findall(header):
        if match := _PREFERENCE.fullmatch(item):
            found.setdefault(match["name"].lower(), (match["value"] or "").strip('"'))
    return Preferences(found.get("respond-async") == "", _seconds(found.get("wait", "")))


def _seconds(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return min(int(digits or "0"), WAIT_LIMIT) if len(digits) < 10 else WAIT_LIMIT
