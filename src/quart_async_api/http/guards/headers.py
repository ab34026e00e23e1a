"""Header fields of responses: content security policy, caching, and the authentication challenge."""

from typing import TypeVar

from quart import Response
from werkzeug.wrappers import Response as WerkzeugResponse

from ...wire.request_state import RequestState

AnyResponse = TypeVar("AnyResponse", Response, Response | WerkzeugResponse)


def content_security_policy(*image_origins: str) -> str:
    """Return a policy without inline scripts and styles, and without other origins, except images of `image_origins`."""
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
    """Add the policy of pages, and keep responses to a key out of shared caches."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        for name, value in _HTML_HEADERS.items():
            response.headers.setdefault(name, value)
    if state.caller.key_id is not None:
        response.headers.setdefault("Cache-Control", "private, no-cache")


def challenge(state: RequestState, response: Response | WerkzeugResponse) -> None:
    """Add the authentication challenge (RFC 6750 section 3), if there is one."""
    if state.challenge is not None and response.status_code in (401, 403):
        response.headers["WWW-Authenticate"] = state.challenge
