"""Errors in the words of a terminal: fields by their names, where the API has JSON Pointers."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidInput, ServiceError


def of_error(error: ServiceError) -> str:
    """Return the message of an error, with `number: …` for the pointer `#/args/number`."""
    if isinstance(error, InvalidInput):
        return _joined((entry.pointer, entry.detail) for entry in error.errors)
    return str(error)


def of_problem(problem: Mapping[str, Any]) -> str:
    """Return the title and detail of a job's error, likewise."""
    faults = _joined((entry["pointer"], entry["detail"]) for entry in problem.get("errors", ()))
    return f"{problem['title']}: {faults or problem['detail']}"


def _joined(errors: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{_name(pointer)}: {detail}" for pointer, detail in errors)


def _name(pointer: str) -> str:
    """`number` for `#/args/number`, `sizes.0` for `#/args/sizes/0` (RFC 6901)."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    if steps[:1] == ["args"]:
        del steps[0]
    return ".".join(steps) or "arguments"
