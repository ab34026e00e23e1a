"""Checks of an app's routes: each when it is added, and all together before the start."""

import re
from collections.abc import Iterable
from typing import Any

from quart import Quart

from ..errors import RouteTaken
from .contract.needs import DELIVERED, said_by

_PARAMETER = re.compile(r"<(?:(?P<converter>\w+)(?:\([^>]*\))?:)?\w+>")
_BY_ITSELF = {"HEAD", "OPTIONS"}  # added to every route that has GET, or any method


def refuse_undeliverable(rule: str, view: object, options: dict[str, Any]) -> None:
    """Raise ValueError for a view of @delivers that is open, or whose arguments would not come from the query."""
    task = getattr(view, DELIVERED, None)
    if task is None:
        return
    said = said_by(view, "GET")
    reason = None
    if said is not None and said.keyless:
        reason = "its caller may start a job, so it cannot be open"
    elif _PARAMETER.search(rule) or options.get("defaults"):
        reason = f"a parameter of the path is no argument of the task; use a query, like {_without(rule)}?name=value"
    elif options.get("websocket"):
        reason = "it is no WebSocket; GET /jobs/{id}/ws watches a job"
    elif methods := {method.upper() for method in options.get("methods") or ()} - _BY_ITSELF - {"GET"}:
        named = ", ".join(sorted(methods))
        reason = f"it supports GET only, not {named}; to submit arguments in a body, use POST /jobs"
    if reason is not None:
        raise ValueError(
            f"route {rule} of task {task!r}: @delivers reads the arguments from the query of a caller: {reason}"
        )


def _without(rule: str) -> str:
    return _PARAMETER.split(rule)[0].rstrip("/") or "/"


def refuse_taken(app: Quart) -> None:
    """Raise RouteTaken if two routes match the same requests: the later one would never be called."""
    taken: dict[tuple[object, ...], str] = {}
    for rule in app.url_map.iter_rules():
        # Names and converters of parameters are ignored: /user/<int:id> matches requests for /user/<user_id>.
        pattern = _PARAMETER.sub(lambda found: "<path>" if found["converter"] == "path" else "<>", rule.rule)
        for method in _methods(rule.methods):
            place = (rule.host, rule.subdomain, pattern, rule.websocket, method)
            first = taken.setdefault(place, rule.endpoint)
            if first != rule.endpoint:
                raise RouteTaken(
                    f"{'WebSocket' if rule.websocket else method} {rule.rule} of {rule.endpoint!r} is taken by {first!r}: "
                    f"give one of them another path"
                )


def _methods(methods: Iterable[str] | None) -> set[str]:
    return set(methods or ()) - _BY_ITSELF
