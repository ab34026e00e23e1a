"""Asks a running process, which may be a worker, how it is: for `quart-async-api doctor`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from .errors import UnexpectedAnswer, Unreachable
from .exchange import headers

ANSWER_SECONDS = 10.0

Health = Mapping[str, Sequence[Mapping[str, Any]]]


async def health(url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> Health:
    """Return the checks of `/health/ready`, by their names. Raises Unreachable, UnexpectedAnswer."""
    asked = f"{url.rstrip('/')}/health/ready"
    try:
        async with httpx.AsyncClient(transport=transport, timeout=ANSWER_SECONDS, trust_env=False) as client:
            answer = await client.get(asked, headers=headers(None))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"no answer: {str(error) or type(error).__name__}") from error
    try:
        found: Health = json.loads(answer.content)["checks"]
        return {name: [dict(check) for check in checks] for name, checks in found.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnexpectedAnswer(f"/health/ready answers {answer.status_code}, without checks") from error
