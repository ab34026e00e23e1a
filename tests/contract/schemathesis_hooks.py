"""What no schema can say, told to schemathesis: values that are the service's to give, or that must be new."""

import itertools
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

_NUMBERS = itertools.count(1)


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """A valid request has a key that no other had, a public address to call back, and no cursor but one it was given."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"key-{next(_NUMBERS)}"
    case.query.pop("cursor", None)
    for given in (case.query, case.body):
        if isinstance(given, dict):
            if given.get("callback_url"):
                given["callback_url"] = "https://callbacks.invalid/"
            else:
                given.pop("callback_events", None)
