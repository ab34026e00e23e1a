"""The header fields of a rate limit (draft-ietf-httpapi-ratelimit-headers-11), and its refusal."""

from ..errors import QuotaExceeded
from ..services.limits import Policy, Quota


def one_too_many(policy: Policy, quota: Quota) -> QuotaExceeded:
    detail = f"{policy.quota} requests in {policy.window} s are allowed; send the next after {quota.resets_in} s"
    return QuotaExceeded("default", detail, quota.resets_in)


def default_fields(policy: Policy, quota: Quota) -> dict[str, str]:
    """Return the fields for the quota of requests."""
    return {
        "RateLimit-Policy": f'"default";q={policy.quota};w={policy.window}',
        "RateLimit": f'"default";r={quota.remaining};t={quota.resets_in}',
    }
