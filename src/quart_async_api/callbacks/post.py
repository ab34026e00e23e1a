"""One attempt of a callback: a signed POST to an allowed address, with limits on time and response size."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from .. import __version__
from ..observability.tracing import Kind, Span, child, recorder
from ..settings import Settings
from ..upstream.transport import AiohttpTransport
from .deliveries import Delivery
from .names import asking
from .signature import headers
from .target import AdmittedResolver, BadTarget, Targets

KEPT_BYTES = 1024  # of a response


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one attempt. `status` is None without a response; `error` has the reason. `retry_after`: seconds."""

    status: int | None
    error: str | None = None
    body: str | None = None
    retry_after: float = 0.0


class Poster:
    """The HTTP client of callbacks: no redirects, no cookies, no proxy, no state shared between targets."""

    def __init__(self, settings: Settings, targets: Targets, *, verify: ssl.SSLContext | None = None) -> None:
        self._timeout = settings.callback_timeout
        self._targets = targets
        # No httpx.AsyncClient: its cookie jar would be shared by all targets.
        self._transport = AiohttpTransport(
            verify=verify, socket_factory=targets.socket, resolver=AdmittedResolver(targets)
        )

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def post(self, delivery: Delivery, signed_with: Sequence[str], now: int) -> Answer:
        """Send a delivery once, at `now` in Unix seconds. Never raises: `Answer.error` has the failure."""
        began, traceparent = time.time_ns(), child(delivery.traceparent)
        answer = await self._post(delivery, traceparent, signed_with, now)
        if traceparent is not None and (spans := recorder()) is not None:
            attributes: dict[str, str | int] = {
                "http.request.method": "POST",
                "messaging.message.id": delivery.message_id,
            }
            if answer.status is not None:  # else the URL may be none
                attributes["http.response.status_code"] = answer.status
                attributes["server.address"] = httpx.URL(delivery.url).host
            error = "no response" if answer.status is None else str(answer.status) if answer.status >= 400 else None
            ended = time.time_ns()
            spans.record(Span(Kind.CLIENT, "POST", traceparent, delivery.traceparent, began, ended, attributes, error))
        return answer

    async def _post(self, delivery: Delivery, traceparent: str | None, signed_with: Sequence[str], now: int) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._timeout
        asking.set(delivery.owner)
        try:
            self._targets.accepted(delivery.url)
            async with asyncio.timeout_at(deadline):
                response = await self._transport.handle_async_request(_request(delivery, traceparent, signed_with, now))
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout:g} s")
        except (BadTarget, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(None, _text(f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:KEPT_BYTES]))
        try:
            return Answer(
                response.status_code, _meaning(response), await _beginning(response, deadline), _retry_after(response)
            )
        finally:
            await response.aclose()


def _request(delivery: Delivery, traceparent: str | None, signed_with: Sequence[str], now: int) -> httpx.Request:
    body = delivery.body.encode()
    sent = {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"quart-async-api/{__version__}",
        **headers(delivery.message_id, now, body, signed_with),
    }
    if traceparent is not None:
        sent["traceparent"] = traceparent
    return httpx.Request("POST", delivery.url, content=body, headers=sent)


async def _beginning(response: httpx.Response, deadline: float) -> str:
    """Return the first KEPT_BYTES of a response, or fewer if it breaks off: its status is already known."""
    kept = bytearray()
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout_at(deadline):
            async for chunk in response.aiter_raw():
                kept += chunk[: KEPT_BYTES - len(kept)]
                if len(kept) >= KEPT_BYTES:
                    break
    return _text(bytes(kept))


def _text(kept: bytes) -> str:
    """Return the text without NUL, which PostgreSQL cannot store."""
    return kept.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _meaning(response: httpx.Response) -> str | None:
    if response.is_success:
        return None
    if response.is_redirect:
        return "redirects are not followed"
    return f"status {response.status_code}"


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3), or 0 if it is missing or invalid."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError, IndexError, TypeError):  # invalid dates
        return 0.0
