"""Errors as RFC 9457 problem details: the one place that turns an exception into an answer, and each type's documentation."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from quart import Response, request
from werkzeug.exceptions import HTTPException

from .. import errors
from ..db.failures import as_unavailable
from .request_context import request_id

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: its page is /problems/{slug}, its title never changes. No slug: no page (about:blank)."""

    slug: str
    status: int
    title: str
    explanation: str
    retry_after: int | None = None

    @property
    def uri(self) -> str:
        return f"/problems/{self.slug}" if self.slug else "about:blank"


_TRY_AGAIN = "Nothing was done. Wait as long as Retry-After says and send the same request again."

BY_ERROR: dict[type[errors.ServiceError], ProblemType] = {
    errors.InvalidInput: ProblemType(
        "invalid-input",
        422,
        "Invalid input",
        "The request could be read, but a value is not what is asked for. `errors` has one entry for each: `pointer` names "
        "the field (`#/name` in the body, the parameter's name in a query), `detail` says what it must be. Nothing was done.",
    ),
    errors.UserNotFound: ProblemType(
        "user-not-found", 404, "User not found", "No user has this id, or it was deleted."
    ),
    errors.JobNotFound: ProblemType("job-not-found", 404, "Job not found", "No job has this id."),
    errors.EmailTaken: ProblemType(
        "email-taken", 409, "Email taken", "Another user has this email address; upper and lower case are the same."
    ),
    errors.StaleVersion: ProblemType(
        "stale-version",
        412,
        "Stale version",
        "`If-Match` named another version than the current one. Read the resource again and decide anew.",
    ),
    errors.DataFileUnusable: ProblemType(
        "data-file-unusable",
        500,
        "Data file unusable",
        "The file that the setting `QAA_DATA_FILE` names is missing, not readable or no JSON. Its operator has to mend it.",
    ),
    errors.UpstreamFailed: ProblemType(
        "upstream-failed",
        502,
        "Upstream failed",
        "A service that this one asked could not be reached, answered with an error, or with something that is not what it "
        "should send.",
    ),
    errors.UpstreamTimeout: ProblemType(
        "upstream-timeout",
        504,
        "Upstream too slow",
        "A service that this one asked did not answer within `QAA_UPSTREAM_TIMEOUT` seconds, repeats included.",
    ),
    errors.DatabaseUnavailable: ProblemType(
        "database-unavailable",
        503,
        "Database unavailable",
        f"The database cannot be used at the moment. {_TRY_AGAIN}",
        2,
    ),
    errors.ShuttingDown: ProblemType(
        "shutting-down", 503, "Shutting down", f"This process is being stopped and takes no new work. {_TRY_AGAIN}", 2
    ),
}

NOT_READY = ProblemType(
    "not-ready",
    503,
    "Not ready",
    "This process cannot take work now: `checks` says why. A balancer sends the work to another one.",
    2,
)

_EXPLANATIONS = {
    400: "The request could not be read: it is not well-formed. The detail says where.",
    403: "The request was understood and is refused. The detail says what would be needed.",
    404: "Nothing is at this address.",
    405: "This address does not take this method; the `Allow` header lists those that it takes.",
    408: "The request did not arrive in time.",
    413: "The body is longer than `QAA_MAX_BODY_BYTES`. It was not read, and nothing was done.",
    415: "The body is of a type that is not taken here; the detail names the type to send.",
    421: "The request's `Host` is not a name of this service. Add the name to `QAA_ALLOWED_HOSTS` if it should be.",
    500: "The service failed. The log has the reason under this `request_id`.",
}
BY_STATUS = {
    status: ProblemType(phrase.lower().replace(" ", "-").replace("'", ""), status, phrase, _EXPLANATIONS[status])
    for status in _EXPLANATIONS
    for phrase in [HTTPStatus(status).phrase]
}
TYPES: Mapping[str, ProblemType] = {kind.slug: kind for kind in (*BY_ERROR.values(), NOT_READY, *BY_STATUS.values())}


def problem(kind: ProblemType, detail: str, headers: dict[str, str] | None = None, **members: object) -> Response:
    """The answer for one occurrence of a problem (RFC 9457 section 3), with the tutorials' `error` key beside it."""
    document = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": request.path,
        "request_id": request_id(),
        "error": kind.title,
        **members,
    }
    response = Response(to_json(document), kind.status, headers, content_type=CONTENT_TYPE)
    if kind.retry_after is not None:
        response.headers["Retry-After"] = str(kind.retry_after)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def answer(error: Exception) -> Any:
    """Turn whatever a handler raised into its answer."""
    if isinstance(error, HTTPException):
        return _http_answer(error)
    known = error if isinstance(error, errors.ServiceError) else as_unavailable(error) or error
    if isinstance(known, errors.ServiceError):
        kind = next(BY_ERROR[base] for base in type(known).__mro__ if base in BY_ERROR)
        if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("%s: %s", kind.title, known, exc_info=known if kind.status == 500 else None)
        if isinstance(known, errors.InvalidInput):
            return problem(kind, str(known), errors=known.errors)
        return problem(kind, str(known) or kind.explanation)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(BY_STATUS[500], "The service failed; its log has the reason under this request_id.")


def _http_answer(error: HTTPException) -> Any:
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
