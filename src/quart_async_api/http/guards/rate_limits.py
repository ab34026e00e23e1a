"""The rate limit of each caller: what is counted, what the answer says of it, and the 429 past it."""

from typing import TYPE_CHECKING, TypeVar

from quart import Quart, g
from quart.wrappers import Response
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import QuotaExceeded
from ...observability.tracing import request_id
from ...services.streams import Stream
from ...settings import Settings
from ...wire.rate_limit_fields import default_fields, one_too_many
from ..parts import parts
from ..problems import answer
from .access import asked, caller, client_address, counted_as, is_shared

if TYPE_CHECKING:
    from ...services.limits import Quota

_EXEMPT = "health"  # the blueprint

AnyResponse = TypeVar("AnyResponse", Response | WerkzeugResponse, Response | WerkzeugResponse | None)


def count() -> None:
    """Count this request, of the caller that it is known to come from by now. Raises QuotaExceeded."""
    limits = parts().limits
    g.quota = None
    if limits is None or not _is_limited():
        return
    g.quota = quota = limits.take(counted_as())
    if quota.exceeded:
        raise one_too_many(limits.policy, quota)


def open_stream() -> Stream:
    """Take a place for a stream of this request's caller. Raises QuotaExceeded, TooManyStreams."""
    g.streams_of = counted_as() if is_shared() else None
    return parts().streams.open(g.streams_of, is_admin=caller().may(Scope.ADMIN))


def job_policies(settings: Settings) -> list[str]:
    """What an API key may have of jobs, unfinished and stored."""
    quotas = [
        ("jobs", settings.job_quota, ';qu="concurrent-requests"'),
        ("kept-jobs", settings.kept_jobs, ""),
        ("kept-bytes", settings.kept_bytes, ';qu="content-bytes"'),
    ]
    return [f'"{name}";q={most}{unit}' for name, most, unit in quotas if most]


def header_fields() -> dict[str, str]:
    """What the answer says of the quotas that the request met: of requests, of jobs, of streams."""
    policies, left = [], []
    quota: Quota | None = g.get("quota")
    limits, settings, streams = parts().limits, parts().settings, parts().streams
    if limits is not None and quota is not None:
        default = default_fields(limits.policy, quota)
        policies.append(default["RateLimit-Policy"])
        left.append(default["RateLimit"])
        if caller().key_id is not None:
            policies += job_policies(settings)
    refusals: Quota | None = g.get("refusals")
    if refusals is not None and (policy := parts().refusals.policy) is not None:
        policies.append(f'"refusals";q={policy.quota};w={policy.window}')
        left.append(f'"refusals";r={refusals.remaining};t={refusals.resets_in}')
    if streams.share and (owner := g.get("streams_of")) is not None:
        policies.append(f'"streams";q={streams.share};qu="concurrent-requests"')
        left.append(f'"streams";r={streams.left(owner)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if policies else {}


def tell_limits(app: Quart) -> None:
    """Have every answer of `app` say what is left; also those to whoever was refused before being counted."""

    async def told(response: AnyResponse) -> AnyResponse:
        if response is None:  # a WebSocket that is over
            return response
        if g.get("refused", False) or response.status_code in (401, 403):
            try:
                _count_refusal(401 if g.get("refused", False) else response.status_code)
            except QuotaExceeded as error:
                response = await answer(error)
        if "quota" not in g:
            try:
                count()
            except QuotaExceeded as error:  # someone who tries one key after another, say
                response = await answer(error)
        response.headers.update(header_fields())
        return response

    app.after_request(told)
    app.after_websocket(told)


def _count_refusal(status: int) -> None:
    """Count and audit a request that was refused. Raises QuotaExceeded, which a request with a right key never meets."""
    route = f"{getattr(asked(), 'method', 'WEBSOCKET')} {asked().endpoint or '-'}"
    refusals = parts().refusals
    g.refusals = quota = refusals.count(client_address(), status, caller(), route, request_id())
    if quota is not None and quota.exceeded and refusals.policy is not None:
        policy = refusals.policy
        detail = f"{policy.quota} refused requests in {policy.window} s are allowed; the next in {quota.resets_in} s"
        raise QuotaExceeded("refusals", detail, quota.resets_in)


def _is_limited() -> bool:
    if asked().blueprint == _EXEMPT:
        return False
    return bool(parts().settings.rate_limit) or is_shared()
