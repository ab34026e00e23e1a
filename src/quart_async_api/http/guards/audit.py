"""Tells the audit log of each request that changed something: whatever asked for more than the scope `read`."""

import re

from quart import Quart, Response, g, request

from ...access.audit import record
from ...observability.tracing import request_id
from .access import caller

_ACTIONS = {
    "POST jobs.submit": "job.submit",
    "DELETE jobs.cancel": "job.cancel",
    "POST jobs.retry": "job.retry",
    "POST users.add_user": "user.create",
    "PATCH users.user": "user.update",
    "DELETE users.user": "user.delete",
    "POST callbacks.replay": "callback.replay",
    "POST sign_in.sign_in": "session.create",
    "POST sign_in.sign_out": "session.end",
    "POST sign_in.new_ticket": "ticket.create",
}
_JOB = re.compile(r"/jobs/([0-9a-f-]{36})(?:>|$)")


def audit(app: Quart) -> None:
    """Have every change by way of `app` be told of."""

    @app.after_request
    async def tell(response: Response) -> Response:
        if not g.get("changes", False) or "Idempotent-Replayed" in response.headers:
            return response
        location = response.headers.get("Location", "")
        started = _JOB.search(location) or _JOB.search(response.headers.get("Link", ""))
        if (
            response.status_code >= 400 and not started
        ):  # a job that failed while its caller waited was started all the same
            return response
        name = f"{request.method} {request.endpoint}"
        action = _ACTIONS.get(name) or ("job.submit" if started else name)
        about = "/".join(map(str, (request.view_args or {}).values()))
        made = started[1] if started else location.rpartition("/")[2] if response.status_code == 201 else None
        record(action, caller(), about or made, request_id())
        return response
