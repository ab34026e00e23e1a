"""One check of `doctor`: what is wrong, why that matters, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 5  # names in one line


@dataclass(frozen=True, slots=True)
class Check:
    """`fault` is what is wrong (None: nothing is), `why` is why that matters, `remedy` what to type. `seen`: what was found."""

    name: str
    seen: str = ""
    fault: str | None = None
    why: str = ""
    remedy: str = ""


def listed(names: Iterable[str]) -> str:
    """Return the first names as text, and how many more there are."""
    every = list(names)
    more = len(every) - SHOWN
    return ", ".join(every[:SHOWN]) + (f" and {more} more" if more > 0 else "")
