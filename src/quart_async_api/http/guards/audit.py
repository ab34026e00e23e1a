"""Writes the audit log: each request that changed something."""

from quart import Request, Response

from ...access.audit import record
from ...wire.request_state import RequestState
from ..contract.needs import STARTS_JOB, Needs


def audit(request: Request, state: RequestState, needs: Needs, response: Response) -> None:
    """Record the change of the request, if there is one."""
    if not state.changes or "Idempotent-Replayed" in response.headers:
        return
    # A job that failed while its caller waited was still started. Without a job, a route that starts jobs changed nothing.
    if state.started is None and (response.status_code >= 400 or needs.audited == STARTS_JOB):
        return
    action = needs.audited or (STARTS_JOB if state.started else f"{request.method} {request.endpoint}")
    target = "/".join(map(str, (request.view_args or {}).values()))
    if not target:
        target = state.started or state.made or _created(response)
    record(action, state.caller, target or None, state.trace.request_id)


def _created(response: Response) -> str:
    return response.headers.get("Location", "").rpartition("/")[2] if response.status_code == 201 else ""
