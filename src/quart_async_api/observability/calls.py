"""The spans of upstream calls."""

import time
from typing import TYPE_CHECKING

from .tracing import Kind, Span, current, recorder

if TYPE_CHECKING:
    import httpx


def record_call(request: "httpx.Request", began: int, outcome: "httpx.Response | BaseException") -> None:
    """Write the span of an upstream call (OpenTelemetry's semantic conventions for HTTP clients)."""
    context, spans, traceparent = current(), recorder(), request.headers.get("traceparent")
    if spans is None or context is None or traceparent is None:
        return
    url = request.url
    attributes: dict[str, str | int] = {
        "http.request.method": request.method,
        "server.address": url.host,
        "server.port": url.port or (443 if url.scheme == "https" else 80),
        "url.full": str(url.copy_with(query=None, fragment=None)),  # queries hold keys
    }
    error: str | None = type(outcome).__name__
    if not isinstance(outcome, BaseException):
        attributes["http.response.status_code"] = outcome.status_code
        error = str(outcome.status_code) if outcome.status_code >= 400 else None
    ended = time.time_ns()
    spans.record(Span(Kind.CLIENT, request.method, traceparent, context.traceparent, began, ended, attributes, error))
