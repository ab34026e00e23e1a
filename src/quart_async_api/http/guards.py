"""What every request passes before its route: the Host allow-list, who may connect, where it came from, and its body's size."""

from urllib.parse import urlsplit

from quart import Quart, Response, request
from werkzeug.exceptions import Forbidden

from ..lifecycle import Lifecycle
from ..settings import Settings
from .hosts import AllowedHosts, is_loopback, split_host

_OPEN_PATHS = ("/health/", "/problems/", "/static/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_STATE_CHANGING_GETS = frozenset({"/start-task"})

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def content_security_policy(*image_origins: str) -> str:
    """No page needs anything of another origin, but for the pictures of `image_origins`, or an inline script or style."""
    images = " ".join(("'self'", "data:", *image_origins))
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


_HTML_HEADERS = {
    "Content-Security-Policy": content_security_policy(),
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def guard(app: Quart, settings: Settings, lifecycle: Lifecycle) -> None:
    """Install the guards on `app`, in the order in which they act."""
    hosts = AllowedHosts(settings.allowed_hosts)

    @app.before_request
    async def check() -> None:
        bound = _bound_address()
        hosts.check(request.headers.get("Host", ""), bound)
        if not settings.allow_anonymous and bound is not None and not is_loopback(bound) and not _is_open(request.path):
            raise Forbidden(
                "This service is reached at an address that others can reach too, and it is open to anyone: "
                "set QAA_ALLOW_ANONYMOUS=1 if that is meant, or bind it to a loopback address."
            )
        if request.method not in _SAFE_METHODS or request.path in _STATE_CHANGING_GETS:
            _refuse_cross_site()
        # The body is read whole, within its limits, before any handler: one that ignores it must not let it pass.
        async with lifecycle.arrival():
            await request.get_data(parse_form_data=False)

    @app.after_request
    async def add_headers(response: Response) -> Response:
        headers = _HEADERS | _HTML_HEADERS if response.mimetype == "text/html" else _HEADERS
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response


def _bound_address() -> str | None:
    """The address that the connection came in on; None for a Unix socket."""
    server = (request.scope or {}).get("server")
    return server[0] if server and server[1] is not None else None


def _is_open(path: str) -> bool:
    return path.startswith(_OPEN_PATHS)


def _refuse_cross_site() -> None:
    """Raises Forbidden where a page of another site sent this request (Fetch Metadata; Origin where that is missing)."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and split_host(urlsplit(origin).netloc) != split_host(request.host)
    if foreign:
        raise Forbidden(
            "A page of another site may not change anything here; send this request from the service's own pages."
        )
