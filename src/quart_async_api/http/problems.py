"""Errors as RFC 9457 problem details: turns every exception into a response."""

import logging
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from quart import Response, has_websocket_context, request, websocket
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException
from werkzeug.routing.exceptions import WebsocketMismatch

from ..errors import QuotaExceeded, Unreadable
from ..jobs.outcomes import known
from ..observability.tracing import request_id
from ..problem_types import BY_STATUS, CONTENT_TYPE, ProblemType, detail_of, document_of, kind_of, members
from .contract.app_problems import problem_type

log = logging.getLogger(__name__)


def _asked() -> BaseRequestWebsocket:
    """Return the current request, or the WebSocket's handshake."""
    return websocket if has_websocket_context() else request


def problem(kind: ProblemType, detail: str, headers: dict[str, str] | None = None, **members: object) -> Response:
    """Return the response for one problem (RFC 9457 section 3), with the `error` key of the tutorials."""
    response = Response(
        to_json(problem_document(kind, detail, **members)), kind.status, headers, content_type=CONTENT_TYPE
    )
    if kind.retry_after is not None:
        response.headers.setdefault("Retry-After", str(kind.retry_after))
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def problem_document(kind: ProblemType, detail: str, **members: object) -> dict[str, object]:
    """Return the document for the current request or handshake."""
    return document_of(kind, detail, _asked().path, request_id(), **members)


def stored_problem(stored: dict[str, Any]) -> Response:
    """Return the problem of a failed job, with its status."""
    others = {name: value for name, value in stored.items() if name not in ("type", "title", "status", "detail")}
    kind = problem_type(stored["type"].removeprefix("/problems/"))
    if kind is None or kind.status != stored["status"]:  # of another version of the service
        kind = ProblemType("", stored["status"], stored["title"], stored["title"])
    return problem(kind, stored["detail"], **others)


async def answer(error: Exception) -> Any:
    """Return the response for an exception of a handler."""
    if isinstance(error, HTTPException):
        return _http_answer(error)
    if (ours := known(error)) is not None:
        kind = kind_of(ours)
        # Unreadable data was already logged.
        if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(ours, Unreadable):
            is_fault = kind.status == HTTPStatus.INTERNAL_SERVER_ERROR
            level = logging.ERROR if is_fault else logging.WARNING
            log.log(level, "%s: %s", kind.title, detail_of(ours), exc_info=ours if is_fault else None)
        headers = {"Retry-After": str(ours.retry_after)} if isinstance(ours, QuotaExceeded) else None
        return problem(kind, detail_of(ours), headers, **members(ours))
    log.error("%s %s failed", _asked().method, _asked().path, exc_info=error)
    return problem(BY_STATUS[500], "The service failed; its log has the reason under this request_id.")


def _http_answer(error: HTTPException) -> Any:
    if isinstance(error, WebsocketMismatch) and not has_websocket_context():
        return problem(BY_STATUS[426], BY_STATUS[426].explanation, {"Upgrade": "websocket", "Connection": "Upgrade"})
    response = error.get_response()
    status = error.code or 500
    if status < HTTPStatus.BAD_REQUEST:
        return response
    kind = BY_STATUS.get(status)
    if kind is None:
        phrase = HTTPStatus(status).phrase
        kind = ProblemType("", status, phrase, phrase)
    headers = {
        name: value
        for name, value in response.headers.items()
        if name.lower() not in ("content-type", "content-length")
    }
    return problem(kind, error.description or kind.explanation, headers)
