"""The problem types (RFC 9457): name, status and explanation of each error of the service and of apps."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from . import errors

SLUG = "[a-z0-9-]{1,64}"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One problem type. Its page is /problems/{slug}; its title never changes. Without a slug: about:blank, no page."""

    slug: str
    status: int
    title: str
    explanation: str
    retry_after: int | None = None

    @property
    def uri(self) -> str:
        return f"/problems/{self.slug}" if self.slug else "about:blank"


CONTENT_TYPE = "application/problem+json"

_TRY_AGAIN = "Nothing was done. Wait for the time in Retry-After, then repeat the request."

BY_ERROR: dict[type[errors.ServiceError], ProblemType] = {
    errors.InvalidInput: ProblemType(
        "invalid-input",
        422,
        "Invalid input",
        "The request is well-formed, but at least one value is not allowed. `errors` has one entry per value: `pointer` is "
        "the field (`#/name` in the body, or the name of a query parameter), `detail` says what is allowed. Nothing was done.",
    ),
    errors.PageTooLarge: ProblemType(
        "page-too-large",
        422,
        "Page too large",
        '`limit` is larger than the maximum page size, which `errors` names. Use a smaller limit and follow `rel="next"`.',
    ),
    errors.NestingTooDeep: ProblemType(
        "nesting-too-deep",
        400,
        "Nesting too deep",
        "The JSON has more nested levels of objects and arrays than the service accepts. Nothing was done.",
    ),
    errors.MessageTooLarge: ProblemType(
        "message-too-large",
        413,
        "Message too large",
        "A WebSocket message is longer than `QAA_MAX_MESSAGE_BYTES`. The service now closes the socket with code 1009.",
    ),
    errors.Unauthorized: ProblemType(
        "unauthorized",
        401,
        "Unauthorized",
        "The service requires an API key, and the request has none, or one that is unknown, expired or revoked. Send "
        "`Authorization: Bearer qaa_…`. `quart-async-api keys create` makes a key. In a browser, sign in at `/sign-in`. "
        "Nothing was done.",
    ),
    errors.InsufficientScope: ProblemType(
        "insufficient-scope",
        403,
        "Insufficient scope",
        "The API key is valid, but lacks the scope for this request. Reading needs `read`. Changing anything and starting a "
        "job need `write`. `admin` includes both. The detail names the missing scope. Nothing was done.",
    ),
    errors.UserNotFound: ProblemType(
        "user-not-found", 404, "User not found", "No user has this id, or the user was deleted."
    ),
    errors.JobNotFound: ProblemType("job-not-found", 404, "Job not found", "No job has this id."),
    errors.JobExpired: ProblemType(
        "job-expired",
        410,
        "Job expired",
        "The job ended more than `QAA_RESULT_TTL` ago and was deleted. The problem has its id, task and end time.",
    ),
    errors.JobEnded: ProblemType(
        "job-ended",
        409,
        "Job ended",
        "The status of the job does not allow this operation. `GET /jobs/{id}` shows the status.",
    ),
    errors.JobCancelled: ProblemType(
        "job-cancelled",
        409,
        "Job cancelled",
        "The job was cancelled and has no result. `POST /jobs/{id}/retry` runs it again.",
    ),
    errors.CallbackNotFound: ProblemType(
        "callback-not-found",
        404,
        "Callback not found",
        "The job has no callback with this id. `GET /jobs/{id}/callbacks` lists them.",
    ),
    errors.TaskNotFound: ProblemType(
        "task-not-found", 404, "Task not found", "No task has this name. `GET /tasks` lists the tasks."
    ),
    errors.TaskPaused: ProblemType(
        "task-paused",
        503,
        "Task paused",
        "An operator has paused the task: its code does not run. A call that waits for its result is refused. With "
        "`Prefer: respond-async` it is accepted as a job, which runs when the task is resumed.",
        30,
    ),
    errors.TaskUnscheduled: ProblemType(
        "task-unscheduled",
        409,
        "Task unscheduled",
        "Only a task with a schedule can be started by its name. `POST /jobs` submits a job of any task.",
    ),
    errors.QueueFull: ProblemType(
        "queue-full", 503, "Queue full", f"`QAA_JOB_QUEUE_LIMIT` jobs are already queued. {_TRY_AGAIN}", 5
    ),
    errors.QuotaExceeded: ProblemType(
        "quota-exceeded",
        429,
        "Quota exceeded",
        "The caller has reached a limit. `violated-policies` names it as in the `RateLimit-Policy` header: `default` counts "
        "requests (`QAA_RATE_LIMIT`), `jobs` counts the unfinished jobs of an API key (`QAA_JOB_QUOTA`), `streams` counts a "
        "caller's open event streams and WebSockets (`QAA_STREAM_QUOTA`), `kept-jobs` counts the stored jobs of an "
        "API key (`QAA_KEPT_JOBS`), `kept-bytes` their bytes and those of stored responses to an `Idempotency-Key` "
        "(`QAA_KEPT_BYTES`), `users` counts all users (`QAA_MAX_USERS`), "
        "`refusals` counts the requests of an address that were refused with 401 or 403 (`QAA_REFUSAL_LIMIT`). "
        "Nothing was done. Wait at least for the time in Retry-After.",
        5,
    ),
    errors.TooManyStreams: ProblemType(
        "too-many-streams",
        503,
        "Too many streams",
        "`QAA_MAX_STREAMS` event streams and WebSockets are already open, except those reserved for admin keys. "
        f"{_TRY_AGAIN} Polling still works.",
        5,
    ),
    errors.KeyInFlight: ProblemType(
        "idempotency-key-in-flight",
        409,
        "Idempotency key in flight",
        "The first request with this `Idempotency-Key` is still running. Repeat the request later.",
        1,
    ),
    errors.KeyReused: ProblemType(
        "idempotency-key-reused",
        422,
        "Idempotency key reused",
        "This `Idempotency-Key` was used for a different request. Use a new key for each new request.",
    ),
    errors.TaskFailed: ProblemType(
        "task-failed",
        500,
        "Task failed",
        "The task raised an exception. The log of the service has the traceback. A retry may succeed.",
    ),
    errors.TaskTimeout: ProblemType(
        "task-timeout", 504, "Task timeout", "An attempt of the task exceeded its timeout."
    ),
    errors.TaskCrashed: ProblemType(
        "task-crashed",
        500,
        "Task crashed",
        "The process that ran the task died `QAA_CRASH_LIMIT` times. Most likely, the task crashes the process.",
    ),
    errors.ArgumentsOutdated: ProblemType(
        "arguments-outdated",
        500,
        "Arguments outdated",
        "The service was updated while the job was queued, and its task now takes other arguments. Submit a new job.",
    ),
    errors.ResultUnusable: ProblemType(
        "result-unusable",
        500,
        "Result unusable",
        "The result of the task does not match its declared type, is not JSON, or exceeds `QAA_RESULT_MAX_BYTES`.",
    ),
    errors.EmailTaken: ProblemType(
        "email-taken",
        409,
        "Email taken",
        "Another user has this email address. Upper and lower case are not distinguished.",
    ),
    errors.StaleVersion: ProblemType(
        "stale-version",
        412,
        "Stale version",
        "`If-Match` does not name the current version. Read the resource again before you change it.",
    ),
    errors.DataFileUnusable: ProblemType(
        "data-file-unusable",
        500,
        "Data file unusable",
        "The file in the setting `QAA_DATA_FILE` is missing, unreadable or not JSON. The operator of the service must fix it.",
    ),
    errors.Unreadable: ProblemType(
        "unreadable-data",
        500,
        "Unreadable data",
        "Data of the database cannot be read: they are damaged, or another version of the service wrote them. The detail names "
        "them, and so does the log of the service, once. The operator must correct or delete them.",
    ),
    errors.UpstreamFailed: ProblemType(
        "upstream-failed",
        502,
        "Upstream failed",
        "An upstream service was unreachable, or sent an error or an invalid response.",
    ),
    errors.UpstreamTimeout: ProblemType(
        "upstream-timeout",
        504,
        "Upstream too slow",
        "An upstream service did not respond within `QAA_UPSTREAM_TIMEOUT` seconds, including retries.",
    ),
    errors.ResourceMissing: ProblemType(
        "resource-missing",
        503,
        "Resource missing",
        "The task needs a resource, such as a connection pool, that this process has not opened. A job waits in the queue "
        f"instead. {_TRY_AGAIN}",
        5,
    ),
    errors.DatabaseUnavailable: ProblemType(
        "database-unavailable",
        503,
        "Database unavailable",
        f"The database is temporarily unavailable. {_TRY_AGAIN}",
        2,
    ),
    errors.ShuttingDown: ProblemType(
        "shutting-down", 503, "Shutting down", f"This process is shutting down and accepts no new work. {_TRY_AGAIN}", 2
    ),
}

NOT_READY = ProblemType(
    "not-ready",
    503,
    "Not ready",
    "This process cannot take work now. `checks` shows the reason. A load balancer should use another process.",
    2,
)

BY_STATUS = {
    kind.status: kind
    for kind in (
        ProblemType(
            "bad-request",
            400,
            "Bad request",
            "The request is not well-formed. The detail names the place.",
        ),
        ProblemType(
            "forbidden",
            403,
            "Forbidden",
            "The request is refused. The detail says what it needs.",
        ),
        ProblemType("not-found", 404, "Not found", "The service has nothing at this path."),
        ProblemType(
            "method-not-allowed",
            405,
            "Method not allowed",
            "This path does not support this method. The `Allow` header lists the supported methods.",
        ),
        ProblemType(
            "request-timeout",
            408,
            "Request timeout",
            "The request did not arrive in time. `QAA_BODY_TIMEOUT` is the limit.",
        ),
        ProblemType(
            "content-too-large",
            413,
            "Content too large",
            "The body is longer than `QAA_MAX_BODY_BYTES`. Nothing was done.",
        ),
        ProblemType(
            "uri-too-long",
            414,
            "URI too long",
            "The query or the path is longer than `QAA_MAX_QUERY_BYTES`. Nothing was done.",
        ),
        ProblemType(
            "unsupported-media-type",
            415,
            "Unsupported media type",
            "The body has an unsupported media type. The detail names the supported type.",
        ),
        ProblemType(
            "misdirected-request",
            421,
            "Misdirected request",
            "The `Host` of the request is not a known name of this service. `QAA_ALLOWED_HOSTS` lists the allowed names.",
        ),
        ProblemType(
            "upgrade-required",
            426,
            "Upgrade required",
            "This path is a WebSocket. Connect with a WebSocket client (RFC 6455).",
        ),
        ProblemType(
            "header-fields-too-large",
            431,
            "Header fields too large",
            "The header fields of the request are together longer than `QAA_MAX_HEADER_BYTES`. Nothing was done.",
        ),
        ProblemType(
            "internal-server-error",
            500,
            "Internal server error",
            "The service failed. The log has the reason; search it for the `request_id`.",
        ),
    )
}
TYPES: Mapping[str, ProblemType] = {kind.slug: kind for kind in (*BY_ERROR.values(), NOT_READY, *BY_STATUS.values())}

_OWN = "__problem__"  # attribute of a class of errors that @problem has given a type

Error = TypeVar("Error", bound=errors.ServiceError)


def problem(
    slug: str, status: int, title: str, explanation: str, *, retry_after: int | None = None
) -> Callable[[type[Error]], type[Error]]:
    """Give a subclass of ServiceError a problem type of its own, with the page /problems/{slug}.

    `status` is from 400 to 599. `retry_after` is the default of the Retry-After header, in seconds. The message of an error
    becomes `detail`, which callers see. Raises TypeError or ValueError for invalid arguments.
    """
    kind = ProblemType(slug, status, title, explanation, retry_after)

    def register(error: type[Error]) -> type[Error]:
        if not issubclass(error, errors.ServiceError):
            raise TypeError(f"problem {slug!r}: {error!r} is not a subclass of ServiceError")
        if not re.fullmatch(SLUG, slug):
            raise ValueError(f"problem {slug!r}: the slug has 1 to 64 lower-case letters, digits and hyphens")
        if not 400 <= status <= 599:
            raise ValueError(f"problem {slug!r}: status {status} is out of range (400-599)")
        if slug in TYPES:
            raise ValueError(f"problem {slug!r}: the service has a problem with this slug")
        setattr(error, _OWN, kind)
        return error

    return register


def _own(error: type) -> ProblemType | None:
    """Return the type that @problem has given this class itself."""
    return vars(error).get(_OWN)


def imported(slug: str) -> ProblemType | None:
    """Return the type of this slug of any class of errors that this process has imported."""
    classes: list[type] = [errors.ServiceError]
    for each in classes:
        classes += each.__subclasses__()
    return next((kind for kind in map(_own, classes) if kind is not None and kind.slug == slug), None)


def type_of(error: type[errors.ServiceError]) -> ProblemType:
    """Return the type of a class of errors, or of its nearest ancestor that has one, else that of status 500."""
    found = (_own(base) or BY_ERROR.get(base) for base in error.__mro__)
    return next((kind for kind in found if kind is not None), BY_STATUS[500])


def kind_of(error: errors.ServiceError) -> ProblemType:
    """Return the type of an error."""
    return type_of(type(error))


def detail_of(error: errors.ServiceError) -> str:
    """Return the message of an error, or the explanation of its type if it has none."""
    try:
        return str(error) or kind_of(error).explanation
    except Exception:  # an app's own __str__
        return kind_of(error).explanation


def describe(error: errors.ServiceError) -> dict[str, object]:
    """Return the problem document of an error (RFC 9457 section 3.1), without the members of a single request."""
    kind = kind_of(error)
    document: dict[str, object] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail_of(error),
    }
    if isinstance(error, errors.InvalidInput):
        document["errors"] = [{"pointer": entry.pointer, "detail": entry.detail} for entry in error.errors]
    if isinstance(error, errors.QuotaExceeded):
        document["violated-policies"] = [error.policy]
    if isinstance(error, errors.JobExpired):
        document |= {"id": error.job_id, "task": error.task, "finished_at": error.finished_at}
    return document


def members(error: errors.ServiceError) -> dict[str, object]:
    """Return the members of an error's document besides its type, title, status and detail."""
    described = describe(error)
    return {name: described[name] for name in described.keys() - {"type", "title", "status", "detail"}}


def document_of(
    kind: ProblemType, detail: str, path: str, request_id: str | None, **members: object
) -> dict[str, object]:
    """Return the problem document for a request of `path`, with the tutorials' `error` key beside it."""
    return {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": quote(path, errors="replace"),
        "request_id": request_id,
        "error": kind.title,
        **members,
    }
