"""The state of a request: one object in its ASGI scope."""

import re
from functools import lru_cache
from typing import Any

from ..access.caller import NOBODY, Caller
from ..observability.tracing import RequestContext
from ..services.limits import Quota
from ..services.streams import Stream

_KEY = "quart_async_api.request"


class RequestState:
    """The request log makes it; guards, delivery and routes read and set it; the log line names the key of its caller.

    `route`: the rule of the route that was matched, like `/user/<int:user_id>`, or empty.
    `session`: digest of the session that stood for the caller's key. `keys_are_made`: the service wants a key, as far as this
    request has found out. `by_ticket`: the caller brought a ticket. `refused`: what the caller brought is no good.
    `challenge`: of WWW-Authenticate. `changes`: it may change something, so the audit log has a line.
    `may_change`: the caller was found to have the scope `write`, and to be no page of another site.
    `started`: id of the job that it started. `made`: id of what else it made, for the audit log.
    `quota`, `refusals`: what is left of them, if they were counted.
    `stream`: the place of the stream that the answer will be; `stream_owner`: whose share it took.
    """

    route: str = ""
    caller: Caller = NOBODY
    session: str | None = None
    keys_are_made: bool = False
    by_ticket: bool = False
    refused: bool = False
    challenge: str | None = None
    changes: bool = False
    may_change: bool = False
    started: str | None = None
    made: str | None = None
    is_counted: bool = False
    quota: Quota | None = None
    refusals: Quota | None = None
    stream: Stream | None = None
    stream_owner: str | None = None

    def __init__(self, trace: RequestContext) -> None:
        self.trace = trace  # all else is of the class until it is set: most requests set one or two


@lru_cache(maxsize=1024)
def template(rule: str) -> str:
    """Return the rule of a route as other tools write it: `/user/{user_id}`."""
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)


def put(scope: dict[str, Any], state: RequestState) -> None:
    scope[_KEY] = state


def state_of(scope: Any) -> RequestState:
    """Return the state of the request with this ASGI scope."""
    state: RequestState = scope[_KEY]
    return state
