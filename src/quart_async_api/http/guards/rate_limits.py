"""The rate limit of each caller: counting, the RateLimit fields of responses, and the 429."""

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
    """Count this request for its caller, after authentication. Raises QuotaExceeded."""
    state.is_counted, state.quota = True, None
    limits = service.limits
    if limits is None or not needs.limited or not (service.settings.rate_limit or is_shared(asked, state)):
        return
    state.quota = quota = limits.take(counted_as(asked, state))
    if quota.exceeded:
        raise one_too_many(limits.policy, quota)


def open_stream() -> Stream:
    """Reserve a stream for the caller of this request. Raises QuotaExceeded, TooManyStreams."""
    opened = state()
    opened.stream_owner = counted_as(asked(), opened) if is_shared(asked(), opened) else None
    return parts().streams.open(opened.stream_owner, is_admin=opened.caller.may(Scope.ADMIN))


def job_policies(settings: Settings) -> list[str]:
    """Return the limits of an API key on unfinished and stored jobs."""
    quotas = [
        ("jobs", settings.job_quota, ';qu="concurrent-requests"'),
        ("kept-jobs", settings.kept_jobs, ""),
        ("kept-bytes", settings.kept_bytes, ';qu="content-bytes"'),
    ]
    return [f'"{name}";q={most}{unit}' for name, most, unit in quotas if most]


def header_fields(service: Service, state: RequestState) -> dict[str, str]:
    """Return the RateLimit fields for the quotas of this request: requests, jobs and streams."""
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
    """Add the RateLimit fields to a response, also if the request was refused before it was counted."""
    if state.refused or response.status_code in (401, 403):
        try:
            _count_refusal(service, asked, state, 401 if state.refused else response.status_code)
        except QuotaExceeded as error:
            response = await answer(error)
    if not state.is_counted:
        try:
            count(service, asked, state, needs)
        except QuotaExceeded as error:  # such as a client that guesses keys
            response = await answer(error)
    if fields := header_fields(service, state):
        response.headers.update(fields)
    return response


def _count_refusal(service: Service, asked: BaseRequestWebsocket, state: RequestState, status: int) -> None:
    """Count and audit a refused request. Raises QuotaExceeded, but never for a request with a valid key."""
    route = f"{getattr(asked, 'method', 'WEBSOCKET')} {asked.endpoint or '-'}"
    refusals = service.refusals
    state.refusals = quota = refusals.count(client_address(asked), status, state.caller, route, state.trace.request_id)
    if quota is not None and quota.exceeded and refusals.policy is not None:
        policy = refusals.policy
        detail = (
            f"{policy.quota} refused requests in {policy.window} s are allowed; send the next after {quota.resets_in} s"
        )
        raise QuotaExceeded("refusals", detail, quota.resets_in)
