"""JSON texts of the database, and what this version cannot read of them."""

import json
import logging
from typing import Any

from .errors import Unreadable
from .problem_types import describe

log = logging.getLogger(__name__)

unreadable: set[str] = set()  # what was found in the database that this version cannot read


def set_aside(what: str) -> Unreadable:
    """Log and count, once, a part of the database that cannot be read; the error that names it."""
    if what not in unreadable:
        unreadable.add(what)
        log.error("%s cannot be read: left out", what)
    return Unreadable(what)


def stored(text: str, what: str, kind: type = object) -> Any:
    """The value of a JSON text of the database. Raises Unreadable where it is none, or is not of this kind."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise set_aside(what) from None
    if not isinstance(value, kind):
        raise set_aside(what)
    return value


def stored_problem(text: str, what: str) -> dict[str, Any]:
    """A problem document of the database. Raises Unreadable."""
    found: dict[str, Any] = stored(text, what, dict)
    texts = [found.get(name) for name in ("type", "title", "detail")]
    status = found.get("status")
    if not all(isinstance(part, str) for part in texts) or type(status) is not int or not 400 <= status < 600:
        raise set_aside(what)
    return found


def shown_problem(text: str | None, what: str) -> dict[str, Any] | None:
    """The same to be shown: where it cannot be read, the problem that says so."""
    try:
        return None if text is None else stored_problem(text, what)
    except Unreadable as error:
        return describe(error)
