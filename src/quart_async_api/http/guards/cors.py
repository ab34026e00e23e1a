"""CORS (Fetch standard): pages of the origins that the operator lists may call the service."""

from quart import Request, Response

_HEARD = (
    "Authorization, Content-Type, Prefer, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-ID, "
    "traceparent, tracestate"
)
_TOLD = "Location, Link, Retry-After, ETag, RateLimit, RateLimit-Policy, Preference-Applied, X-Request-ID, Idempotent-Replayed"
_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"  # of all routes: only callers with a key see those of one route
_MAX_AGE = "600"  # seconds; browsers cache the preflight response


def allow_origin(request: Request, response: Response, origins: tuple[str, ...]) -> None:
    """Let pages of exactly these origins read the response. Never with cookies: they must send a key in Authorization."""
    if not origins:
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _TOLD
    if is_preflight(request):
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEARD
        response.headers["Access-Control-Max-Age"] = _MAX_AGE


def is_preflight(request: Request) -> bool:
    """Return whether this is a CORS preflight request (Fetch section 3.3.2)."""
    headers = request.headers
    return request.method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers
