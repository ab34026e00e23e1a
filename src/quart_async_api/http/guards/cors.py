"""Which pages of other origins may call the service (CORS, of the Fetch standard): those that the operator names."""

from quart import Request, Response

_HEARD = (
    "Authorization, Content-Type, Prefer, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-ID, "
    "traceparent, tracestate"
)
_TOLD = "Location, Link, Retry-After, ETag, RateLimit, RateLimit-Policy, Preference-Applied, X-Request-ID, Idempotent-Replayed"
_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"  # of all routes: which has which is for callers with a key
_MAX_AGE = "600"  # seconds that a browser need not ask again


def allow_origin(request: Request, response: Response, origins: tuple[str, ...]) -> None:
    """Let pages of exactly these origins read the answer. Never with cookies: they bring a key in Authorization."""
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
    """Whether a browser asks with this request what it may send (Fetch section 3.3.2)."""
    headers = request.headers
    return request.method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers
