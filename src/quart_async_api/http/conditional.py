"""Conditional requests (RFC 9110 section 13): ETags out, If-None-Match and If-Match in."""

from collections.abc import Callable

from quart import Request, Response, request
from werkzeug.http import parse_date

_DATES = frozenset({b"if-modified-since", b"if-unmodified-since", b"if-range"})


def drop_bad_dates(request: Request) -> None:
    """Ignore invalid dates (RFC 9110 section 13.1.3): the framework's static files would fail on some."""
    for name in _DATES.intersection([name for name, _ in request.scope["headers"]]):
        date = request.headers.get(name.decode())
        if date is not None and not _is_readable(date):
            request.headers.remove(name.decode())


def _is_readable(date: str) -> bool:
    try:
        parse_date(date)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # OverflowError for a year of 20 digits
        return False
    return True


def tagged(response: Response, version: str) -> Response:
    """Return the response with its strong ETag, or 304 if the caller already has this version, which has no quotes."""
    response.headers["ETag"] = f'"{version}"'  # a third of the price of `set_etag`
    is_asked = "If-None-Match" in request.headers and request.method in ("GET", "HEAD")
    if is_asked and request.if_none_match.contains_weak(version):
        unchanged = Response(status=304)
        unchanged.set_etag(version)
        return unchanged
    return response


def expected_version() -> Callable[[str], bool] | None:
    """Return a function that checks a version against If-Match, with strong comparison; None without the header."""
    if "If-Match" not in request.headers:
        return None
    return request.if_match.contains
