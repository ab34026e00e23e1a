"""The outermost ASGI layer: gives each request an id, answers escaped errors, and writes one log line."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest

from ..observability.tracing import Kind, RequestContext, Span, enter, recorder
from ..services.limits import RateLimits
from .addresses import check_syntax
from .last_resort import Answer, Receive, Send
from .proxies import TrustedProxies
from .request_state import RequestState, put, template

log = logging.getLogger("quart_async_api.request")

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_LONGEST_METHOD = (
    32  # characters, of a name that no route has; a client may send one as long as a head, for each log line
)


class RequestLog:
    """Gives a request its id and trace, the answer its X-Request-ID, and the log its line.

    `limits` count, by address, the requests that the app could not answer. `strict_transport_security` is sent over https;
    empty: not.
    """

    def __init__(
        self, app: AsgiApp, proxies: TrustedProxies, limits: RateLimits | None, *, strict_transport_security: str = ""
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._limits = limits
        self._strict_transport_security = strict_transport_security
        self.in_flight = 0
        self.answered = [0] * 10  # requests, by the first digit of their status
        # Counts a request for /metrics: its method, route, status and seconds. None: metrics are off.
        self.count: Callable[[str, str, int, float], None] | None = None
        self.writes_spans = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        context = RequestContext.of(dict(scope["headers"]))
        enter(context)
        started = time.perf_counter()
        state = RequestState(context)
        put(scope, state)
        answer = Answer(send, context.request_id)
        self.in_flight += 1
        try:
            if len(scope.get("method", "")) > _LONGEST_METHOD:
                scope = {**scope, "method": scope["method"][:_LONGEST_METHOD]}
            scope = self._proxies.resolve(scope)
            if self._strict_transport_security and scope.get("scheme") in ("https", "wss"):
                answer.hold_to_https(self._strict_transport_security)
            if not scope["path"].startswith("/"):
                scope = _in_origin_form(scope)
            _check(scope)
            await self._app(scope, answer.until_disconnected(receive), answer.send)
        except Exception as error:
            await answer.fail(scope, error, self._limits)
        finally:
            self.in_flight -= 1
            self.answered[answer.status // 100] += 1
            seconds = time.perf_counter() - started
            if self.count is not None:
                self.count(scope.get("method", "WEBSOCKET"), template(state.route), answer.status, seconds)
            if self.writes_spans:
                _record(scope, state, answer.status, seconds)
            if log.isEnabledFor(logging.INFO):
                self._write(scope, state, answer.status, seconds)

    def _write(self, scope: dict[str, Any], state: RequestState, status: int, seconds: float) -> None:
        method, path = scope.get("method", "WEBSOCKET"), scope["path"]
        data = {
            "method": method,
            "path": path,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_id": state.trace.request_id,
            "trace_id": state.trace.trace_id,
            "client": (scope.get("client") or ("-",))[0],
        }
        if state.caller.key_id:
            data["key"] = state.caller.key_id
        # What `log.info` does, without a look for its caller in the stack.
        message = "%s %s %d", (method, path, status)
        log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, *message, None, extra=data))


def _record(scope: dict[str, Any], state: RequestState, status: int, seconds: float) -> None:
    """Write the span of a request (OpenTelemetry's semantic conventions for HTTP servers)."""
    if (spans := recorder()) is None:
        return
    method, route, ended = scope.get("method", "GET"), template(state.route), time.time_ns()
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        "client.address": (scope.get("client") or ("-",))[0],
        "network.protocol.version": scope.get("http_version", "1.1"),
        "quart_async_api.request_id": state.trace.request_id,
    }
    if route:
        attributes["http.route"] = route
    if state.started is not None:
        attributes["messaging.message.id"] = state.started
    spans.record(
        Span(
            Kind.SERVER,
            f"{method} {route}".rstrip(),
            state.trace.traceparent,
            state.trace.parent,
            ended - round(seconds * 1e9),
            ended,
            attributes,
            str(status) if status >= 500 else None,
        )
    )


def route_of(seen: Mapping[str, Any]) -> str:
    """Name the request that `RequestLog.__call__` with these local variables handles, by its method and its route."""
    state = seen.get("state")
    return f"{seen['scope'].get('method', 'WEBSOCKET')} {(state and template(state.route)) or '(no route)'}"


def _check(scope: dict[str, Any]) -> None:
    """Raise BadRequest for requests that HTTP forbids but some servers accept."""
    if not (scope.get("raw_path") or b"").isascii() or not scope["query_string"].isascii():
        raise BadRequest("The target has bytes outside of ASCII; percent-encode them.")
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        raise BadRequest("The request has more than one Host.")
    if hosts or scope.get("http_version", "1.1") != "1.0":
        check_syntax(hosts[0].decode("latin-1") if hosts else None)


def _in_origin_form(scope: dict[str, Any]) -> dict[str, Any]:
    """A target that names its host (RFC 9112 section 3.2.2) goes before the Host header; one that names nothing is the root."""
    try:
        target = urlsplit(scope["path"])
    except ValueError:
        target = urlsplit("")
    if not target.netloc:
        return {**scope, "path": f"/{scope['path']}"}
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    host = (b"host", target.netloc.encode("latin-1", "replace"))
    return {**scope, "path": target.path or "/", "headers": [*others, host]}
