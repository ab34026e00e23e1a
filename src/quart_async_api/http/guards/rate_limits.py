"""The rate limit of each caller: what is counted, what the answer says of it, and the 429 past it."""

from typing import TypeVar

from quart.wrappers import BaseRequestWebsocket, Response
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import QuotaExceeded
from ...service import Service
from ...services.streams import Stream
from ...settings import Settings
from ...wire.rate_limit_fields import default_fields, one_too_many
from ...wire.request_state import RequestState
from ..contract.needs import GUARDED, Needs
from ..parts import parts
from ..problems import answer
from .access import asked, client_address, counted_as, is_shared, state

AnyResponse = TypeVar("AnyResponse", Response, Response | WerkzeugResponse)


def count(service: Service, asked: BaseRequestWebsocket, state: RequestState, needs: Needs = GUARDED) -> None:
    """Count this request, of the caller that it is known to come from by now. Raises QuotaExceeded."""
    state.is_counted, state.quota = True, None
    limits = service.limits
    if limits is None or not needs.limited or not (service.settings.rate_limit or is_shared(asked, state)):
        return
    state.quota = quota = limits.take(counted_as(asked, state))
    if quota.exceeded:
        raise one_too_many(limits.policy, quota)


def open_stream() -> Stream:
    """Take a place for a stream of this request's caller. Raises QuotaExceeded, TooManyStreams."""
    opened = state()
    opened.stream_owner = counted_as(asked(), opened) if is_shared(asked(), opened) else None
    return parts().streams.open(opened.stream_owner, is_admin=opened.caller.may(Scope.ADMIN))


def job_policies(settings: Settings) -> list[str]:
    """What an API key may have of jobs, unfinished and stored."""
    quotas = [
        ("jobs", settings.job_quota, ';qu="concurrent-requests"'),
        ("kept-jobs", settings.kept_jobs, ""),
        ("kept-bytes", settings.kept_bytes, ';qu="content-bytes"'),
    ]
    return [f'"{name}";q={most}{unit}' for name, most, unit in quotas if most]


def header_fields(service: Service, state: RequestState) -> dict[str, str]:
    """What the answer says of the quotas that the request met: of requests, of jobs, of streams."""
    policies, left = [], []
    if service.limits is not None and state.quota is not None:
        default = default_fields(service.limits.policy, state.quota)
        policies.append(default["RateLimit-Policy"])
        left.append(default["RateLimit"])
        if state.caller.key_id is not None:
            policies += job_policies(service.settings)
    refusals = state.refusals
    if refusals is not None and (policy := service.refusals.policy) is not None:
        policies.append(f'"refusals";q={policy.quota};w={policy.window}')
        left.append(f'"refusals";r={refusals.remaining};t={refusals.resets_in}')
    streams, owner = service.streams, state.stream_owner
    if streams.share and owner is not None:
        policies.append(f'"streams";q={streams.share};qu="concurrent-requests"')
        left.append(f'"streams";r={streams.left(owner)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if policies else {}


async def tell_limits(
    service: Service, asked: BaseRequestWebsocket, state: RequestState, needs: Needs, response: AnyResponse
) -> AnyResponse:
    """Have the answer say what is left; also the one to whoever was refused before being counted."""
    if state.refused or response.status_code in (401, 403):
        try:
            _count_refusal(service, asked, state, 401 if state.refused else response.status_code)
        except QuotaExceeded as error:
            response = await answer(error)
    if not state.is_counted:
        try:
            count(service, asked, state, needs)
        except QuotaExceeded as error:  # someone who tries one key after another, say
            response = await answer(error)
    response.headers.update(header_fields(service, state))
    return response


def _count_refusal(service: Service, asked: BaseRequestWebsocket, state: RequestState, status: int) -> None:
    """Count and audit a request that was refused. Raises QuotaExceeded, which a request with a right key never meets."""
    route = f"{getattr(asked, 'method', 'WEBSOCKET')} {asked.endpoint or '-'}"
    refusals = service.refusals
    state.refusals = quota = refusals.count(client_address(asked), status, state.caller, route, state.trace.request_id)
    if quota is not None and quota.exceeded and refusals.policy is not None:
        policy = refusals.policy
        detail = f"{policy.quota} refused requests in {policy.window} s are allowed; the next in {quota.resets_in} s"
        raise QuotaExceeded("refusals", detail, quota.resets_in)
