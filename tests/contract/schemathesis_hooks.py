"""What no schema can say, told to schemathesis: values that are the service's to give, or that must be new."""

import itertools
from typing import Any, cast

import schemathesis
from schemathesis import Case, HookContext

_NUMBERS = itertools.count(1)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Make a valid request one that goes well: with a new key, no cursor, an address to call, and time for its task."""
    if case.operation.path == "/tasks/{name}/pause":
        case.path_parameters["name"] = "unknown"  # a paused task would refuse the calls that follow
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"key-{next(_NUMBERS)}"
    case.query.pop("cursor", None)
    # A bulk job would change the jobs that other requests are about, and double what it retries.
    if case.operation.path == "/jobs/bulk" and isinstance(case.body, dict):
        case.body["filter"] = {"created_before": "2026-01-01T00:00:00Z"}
    if isinstance(case.body, dict) and case.body.get("task") == "jobs-bulk":
        cast("dict[str, Any]", case.body["args"])["filter"] = {"created_before": "2026-01-01T00:00:00Z"}
    for given in (case.query, case.body):
        if isinstance(given, dict):
            if given.get("callback_url"):
                given["callback_url"] = "http://127.0.0.1:9/"  # where nobody listens
            else:
                given.pop("callback_events", None)
            if given.get("delay"):
                given["delay"] = 60  # less than QAA_MAX_DELAY
            if given.get("run_at"):
                given["run_at"] = "2026-01-01T00:00:00Z"
            if given.get("timeout"):
                given["timeout"] = 60
