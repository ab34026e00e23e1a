"""The rate limit of each caller: its header fields (draft-ietf-httpapi-ratelimit-headers-11), and the 429 past it."""

import ipaddress
from typing import TypeVar

from quart import Quart, g, has_websocket_context, request, websocket
from quart.wrappers import BaseRequestWebsocket, Response
from werkzeug.wrappers import Response as WerkzeugResponse

from ..errors import QuotaExceeded
from ..services.rate_limits import Policy, Quota, RateLimits
from ..settings import Settings
from .access import caller
from .hosts import is_loopback
from .parts import parts
from .problems import answer

_UNLESS_SET = Policy(600, 60)
_EXEMPT = "health"  # the blueprint

AnyResponse = TypeVar("AnyResponse", Response | WerkzeugResponse, Response | WerkzeugResponse | None)


def rate_limits(settings: Settings) -> RateLimits | None:
    """The limits that `QAA_RATE_LIMIT` asks for; None: there are none."""
    if settings.rate_limit == "off":
        return None
    return RateLimits(Policy.parse(settings.rate_limit) if settings.rate_limit else _UNLESS_SET)


def count() -> None:
    """Count this request, of the caller that it is known to come from by now. Raises QuotaExceeded."""
    asked: BaseRequestWebsocket = websocket if has_websocket_context() else request
    limits = parts().limits
    g.quota = quota = limits.take(_counted_as(asked)) if limits and _is_limited(asked) else None
    if limits and quota and quota.exceeded:
        policy = limits.policy
        detail = f"{policy.quota} requests in {policy.window} s are allowed; the next in {quota.resets_in} s"
        raise QuotaExceeded("default", detail, quota.resets_in)


def header_fields() -> dict[str, str]:
    """What the answer to a request that was counted says of the caller's quota."""
    quota: Quota | None = g.get("quota")
    limits = parts().limits
    if limits is None or quota is None:
        return {}
    policies = [f'"default";q={limits.policy.quota};w={limits.policy.window}']
    if (most := parts().settings.job_quota) and caller().key_id is not None:
        policies.append(f'"jobs";q={most};qu="concurrent-requests"')
    return {
        "RateLimit-Policy": ", ".join(policies),
        "RateLimit": f'"default";r={quota.remaining};t={quota.resets_in}',
    }


def tell_limits(app: Quart) -> None:
    """Have every answer of `app` say what is left; also those to whoever was refused before being counted."""

    async def told(response: AnyResponse) -> AnyResponse:
        if response is None:  # a WebSocket that is over
            return response
        if "quota" not in g:
            try:
                count()
            except QuotaExceeded as error:  # someone who tries one key after another, say
                response = await answer(error)
        response.headers.update(header_fields())
        return response

    app.after_request(told)
    app.after_websocket(told)


def _counted_as(asked: BaseRequestWebsocket) -> str:
    key = caller().key_id
    return f"address {network(_client(asked))}" if key is None else f"key {key}"


def _client(asked: BaseRequestWebsocket) -> str:
    """Its address, as the first trusted proxy saw it; nothing over a Unix socket."""
    client = (asked.scope or {}).get("client")
    return client[0] if client else ""


def network(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one client is given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _is_limited(asked: BaseRequestWebsocket) -> bool:
    if asked.blueprint == _EXEMPT:
        return False
    bound = (asked.scope or {}).get("server")
    on_loopback = bound is None or bound[1] is None or is_loopback(bound[0])
    return bool(parts().settings.rate_limit) or not on_loopback or _keys_are_made()


def _keys_are_made() -> bool:
    return caller().key_id is not None
