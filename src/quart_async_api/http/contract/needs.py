"""What a request needs before a route answers it."""

COOKIE = "qaa_session"
SIGN_IN = "/sign-in"
_KEYLESS = ("/health/", "/problems/", "/static/")


def is_open(path: str) -> bool:
    """Whether nobody needs a key there."""
    return path == SIGN_IN or path.startswith(_KEYLESS)
