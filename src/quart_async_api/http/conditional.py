"""Conditional requests (RFC 9110 section 13): ETags out, If-None-Match and If-Match in."""

from collections.abc import Callable

from quart import Response, request


def tagged(response: Response, version: str) -> Response:
    """The response with its strong ETag, or 304 where the caller has this version already."""
    response.set_etag(version)
    if request.method in ("GET", "HEAD") and request.if_none_match.contains_weak(version):
        unchanged = Response(status=304)
        unchanged.set_etag(version)
        return unchanged
    return response


def expected_version() -> Callable[[str], bool] | None:
    """What If-Match asks of the current version, compared strongly; None where the caller asks nothing."""
    if "If-Match" not in request.headers:
        return None
    return request.if_match.contains
