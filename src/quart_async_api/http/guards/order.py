"""What every request passes before its route: its Host, its key and scope, where it came from, its rate, its body's size."""

from typing import TypeVar
from urllib.parse import quote, urlsplit

from quart import Quart, Response, g, redirect, request, websocket
from quart.typing import ResponseReturnValue
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import Unauthorized
from ...lifecycle import Lifecycle
from ...settings import Settings
from ...wire.addresses import host_of, is_loopback
from ..contract.needs import SIGN_IN
from ..parts import parts
from .access import bound_address, caller, require
from .authentication import authenticate, is_navigation
from .cors import is_preflight
from .hosts import AllowedHosts
from .rate_limits import count

AnyResponse = TypeVar("AnyResponse", Response, Response | WerkzeugResponse)

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_STATE_CHANGING_GETS = frozenset({"/start-task"})
# For whoever has a key: they change nothing but how it is shown from here on.
_OF_ANY_SCOPE = frozenset({"sign_in.sign_in", "sign_in.sign_out", "sign_in.new_ticket"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


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

    @app.before_websocket
    async def check_websocket() -> None:
        hosts.check(websocket.headers.get("Host", ""), bound_address(websocket))
        await authenticate()
        require(Scope.READ)
        refuse_cross_site(websocket)  # browsers let any page open a socket anywhere
        count()

    @app.before_request
    async def check() -> ResponseReturnValue | None:
        hosts.check(request.headers.get("Host", ""), bound_address(request))
        if is_preflight():
            return Response(status=204)  # alike for every path: a browser brings no key yet
        try:
            await authenticate()
        except Unauthorized:
            if not is_navigation():
                raise
            wanted = request.full_path.removesuffix("?") if request.method == "GET" else "/"
            return redirect(f"{SIGN_IN}?next={quote(wanted, safe='/')}", 303)
        is_safe = request.method in _SAFE_METHODS
        if request.endpoint in _OF_ANY_SCOPE:
            g.changes = True
        elif request.method != "OPTIONS":
            require(Scope.READ if is_safe else Scope.WRITE)
        if not is_safe or request.path in _STATE_CHANGING_GETS:
            refuse_cross_site(request)
        count()
        # The body is read whole, within its limits, before any handler: one that ignores it must not let it pass.
        async with lifecycle.arrival():
            await request.get_data(parse_form_data=False)
        return None

    @app.after_request
    async def add_headers(response: Response) -> Response:
        if response.mimetype == "text/html":
            for name, value in _HTML_HEADERS.items():
                response.headers.setdefault(name, value)
        if caller().key_id is not None:
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return challenged(response)

    @app.after_websocket
    async def challenge(response: Response | WerkzeugResponse | None) -> Response | WerkzeugResponse | None:
        return None if response is None else challenged(response)


def challenged(response: AnyResponse) -> AnyResponse:
    """Say what would be needed (RFC 6750 section 3) where something is."""
    if response.status_code in (401, 403) and "challenge" in g:
        response.headers["WWW-Authenticate"] = g.challenge
    return response


def refuse_cross_site(asked: BaseRequestWebsocket) -> None:
    """Raises Forbidden where a page of another site sent this (Fetch Metadata; Origin where that is missing).

    A page of QAA_CORS_ORIGINS may bring a key or a ticket of its own, never the cookie that the browser adds.
    """
    site = asked.headers.get("Sec-Fetch-Site")
    origin = asked.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and _origin(origin) != _origin(f"{_web_scheme(asked)}://{asked.host}")
    brought = "Authorization" in asked.headers or g.get("by_ticket", False)
    if foreign and not (brought and origin in parts().settings.cors_origins):
        raise Forbidden(
            "A page of another site may not change anything here; send this request from the service's own pages."
        )


def refuse_unattributable(asked: BaseRequestWebsocket) -> None:
    """Raises Forbidden for a change by GET of which nobody can tell whether a page of another site caused it.

    To a plain-http host that is not loopback browsers send no Sec-Fetch-Site, nor, with a picture, an Origin.
    """
    told = "Sec-Fetch-Site" in asked.headers or caller().key_id is not None
    if (
        asked.method == "GET"
        and not told
        and asked.scheme == "http"
        and not is_loopback(host_of(asked.headers.get("Host", "")) or "")
    ):
        raise Forbidden(
            "A GET that starts a job needs https, a loopback address or an API key, since a page of another site could have "
            "sent it; send it by POST, or with the header Prefer: respond-async."
        )


def _web_scheme(asked: BaseRequestWebsocket) -> str:
    return {"ws": "http", "wss": "https"}.get(asked.scheme, asked.scheme)


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Its scheme, host and port (RFC 6454 section 4); None for what has none, which equals no other."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, host.removesuffix("."), port) if host else None
