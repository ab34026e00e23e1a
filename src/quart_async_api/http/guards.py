"""What every request passes before its route: the Host allow-list, who may connect, where it came from, and its body's size."""

from urllib.parse import urlsplit

from quart import Quart, Response, request, websocket
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import Forbidden

from ..lifecycle import Lifecycle
from ..settings import Settings
from .hosts import AllowedHosts, is_loopback, split_host
from .parts import parts
from .rate_limits import count

_OPEN_PATHS = ("/health/", "/problems/", "/static/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_STATE_CHANGING_GETS = frozenset({"/start-task"})

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
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

    def admit(asked: BaseRequestWebsocket) -> None:
        bound = _bound_address(asked)
        hosts.check(asked.headers.get("Host", ""), bound)
        if not settings.allow_anonymous and bound is not None and not is_loopback(bound) and not _is_open(asked.path):
            raise Forbidden(
                "This service is reached at an address that others can reach too, and it is open to anyone: "
                "set QAA_ALLOW_ANONYMOUS=1 if that is meant, or bind it to a loopback address."
            )

    @app.before_websocket
    async def check_websocket() -> None:
        admit(websocket)
        refuse_cross_site(websocket)  # browsers let any page open a socket anywhere
        count()

    @app.before_request
    async def check() -> None:
        admit(request)
        if request.method not in _SAFE_METHODS or request.path in _STATE_CHANGING_GETS:
            refuse_cross_site(request)
        count()
        # The body is read whole, within its limits, before any handler: one that ignores it must not let it pass.
        async with lifecycle.arrival():
            await request.get_data(parse_form_data=False)

    @app.after_request
    async def add_headers(response: Response) -> Response:
        headers = _HEADERS | _HTML_HEADERS if response.mimetype == "text/html" else _HEADERS
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response


def _bound_address(asked: BaseRequestWebsocket) -> str | None:
    """The address that the connection came in on; None for a Unix socket."""
    server = (asked.scope or {}).get("server")
    return server[0] if server and server[1] is not None else None


def _is_open(path: str) -> bool:
    return path.startswith(_OPEN_PATHS)


def refuse_cross_site(asked: BaseRequestWebsocket) -> None:
    """Raises Forbidden where a page of another site sent this (Fetch Metadata; Origin where that is missing).

    A page of QAA_CORS_ORIGINS may bring a key of its own, never the cookie that the browser adds.
    """
    site = asked.headers.get("Sec-Fetch-Site")
    origin = asked.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and _host_of(origin) != split_host(asked.host)
    if foreign and not (origin in parts().settings.cors_origins and "Authorization" in asked.headers):
        raise Forbidden(
            "A page of another site may not change anything here; send this request from the service's own pages."
        )


def _host_of(origin: str) -> str | None:
    try:
        return split_host(urlsplit(origin).netloc)
    except ValueError:
        return None
