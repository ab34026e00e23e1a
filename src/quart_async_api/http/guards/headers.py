"""The header fields of an answer: what a page may load, who may keep it, and what a refused caller would need."""

from typing import TypeVar

from quart import Response
from werkzeug.wrappers import Response as WerkzeugResponse

from ...wire.request_state import RequestState

AnyResponse = TypeVar("AnyResponse", Response, Response | WerkzeugResponse)


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


def add_headers(state: RequestState, response: Response) -> None:
    """Send the policy of pages, and keep answers to a key out of shared caches."""
    if response.mimetype == "text/html":
        for name, value in _HTML_HEADERS.items():
            response.headers.setdefault(name, value)
    if state.caller.key_id is not None:
        response.headers.setdefault("Cache-Control", "private, no-cache")


def challenge(state: RequestState, response: Response | WerkzeugResponse) -> None:
    """Say what would be needed (RFC 6750 section 3) where something is."""
    if state.challenge is not None and response.status_code in (401, 403):
        response.headers["WWW-Authenticate"] = state.challenge
