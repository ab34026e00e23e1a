"""Refuses requests of other sites' pages that would change data or start a job."""

from urllib.parse import urlsplit

from quart import request
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import Forbidden

from ...access.caller import Scope
from ...wire.addresses import host_of, is_loopback
from ...wire.request_state import state_of
from ..parts import parts
from .access import check_scope, state

_DEFAULT_PORTS = {"http": 80, "https": 443}


def refuse_cross_site(asked: BaseRequestWebsocket) -> None:
    """Raise Forbidden for a request of another site's page (by Fetch Metadata, or by Origin if that is missing).

    A page of QAA_CORS_ORIGINS may send its own key or ticket, but never the cookie that the browser adds.
    """
    site = asked.headers.get("Sec-Fetch-Site")
    origin = asked.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and _origin(origin) != _origin(f"{_web_scheme(asked)}://{asked.host}")
    brought = "Authorization" in asked.headers or state_of(asked.scope).by_ticket
    if foreign and not (brought and origin in parts().settings.cors_origins):
        raise Forbidden(
            "Pages of other sites may not change anything here. Send this request from the service's own pages."
        )


def require_change() -> None:
    """Check the permission for a change, once. For a job, which a safe method can start, and for a callback.

    Raises InsufficientScope, Forbidden.
    """
    current = state()
    if not current.may_change:
        check_scope(current, Scope.WRITE)
        refuse_cross_site(request)
        current.may_change = True


def refuse_unattributable(asked: BaseRequestWebsocket) -> None:
    """Raise Forbidden for a change by GET that a page of another site may have caused.

    Over plain http to a host that is not loopback, browsers send no Sec-Fetch-Site, and for images no Origin.
    """
    told = "Sec-Fetch-Site" in asked.headers or state_of(asked.scope).caller.key_id is not None
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
    """Return scheme, host and port of an origin (RFC 6454 section 4); None for an opaque origin, which equals no other."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, host.removesuffix("."), port) if host else None
