"""The types of problems (RFC 9457): what each error of the service is called, its status, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import errors


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
    errors.PageTooLarge: ProblemType(
        "page-too-large",
        422,
        "Page too large",
        '`limit` asks for more than one page holds; `errors` says how much that is. Ask for less, and follow `rel="next"`.',
    ),
    errors.NestingTooDeep: ProblemType(
        "nesting-too-deep",
        400,
        "Nesting too deep",
        "The JSON has objects or arrays in one another, more levels of them than are read. Nothing was done.",
    ),
    errors.MessageTooLarge: ProblemType(
        "message-too-large",
        413,
        "Message too large",
        "A message over a WebSocket was longer than `QAA_MAX_MESSAGE_BYTES`. The socket is closed with code 1009 after this.",
    ),
    errors.Unauthorized: ProblemType(
        "unauthorized",
        401,
        "Unauthorized",
        "The service wants an API key: `Authorization: Bearer qaa_…`, which `quart-async-api keys create` makes; a browser "
        "signs in at `/sign-in`. None was sent, or it is unknown, expired or revoked. Nothing was done.",
    ),
    errors.InsufficientScope: ProblemType(
        "insufficient-scope",
        403,
        "Insufficient scope",
        "The API key is good, but not for this: reading wants the scope `read`, changing anything and starting a job "
        "`write`; `admin` has both. The detail names the one that is missing. Nothing was done.",
    ),
    errors.UserNotFound: ProblemType(
        "user-not-found", 404, "User not found", "No user has this id, or it was deleted."
    ),
    errors.JobNotFound: ProblemType("job-not-found", 404, "Job not found", "No job has this id."),
    errors.JobExpired: ProblemType(
        "job-expired",
        410,
        "Job expired",
        "The job ended longer ago than `QAA_RESULT_TTL`. What is left is in the problem: its id, task and when it ended.",
    ),
    errors.JobEnded: ProblemType(
        "job-ended",
        409,
        "Job ended",
        "What was asked for is not possible in the state that the job is in; see its monitor.",
    ),
    errors.JobCancelled: ProblemType(
        "job-cancelled",
        409,
        "Job cancelled",
        "The job was cancelled, and has no result. `POST /jobs/{id}/retry` runs it again.",
    ),
    errors.CallbackNotFound: ProblemType(
        "callback-not-found",
        404,
        "Callback not found",
        "The job has no callback of this id; `GET /jobs/{id}/callbacks` lists them.",
    ),
    errors.QueueFull: ProblemType(
        "queue-full", 503, "Queue full", f"`QAA_JOB_QUEUE_LIMIT` jobs are queued already. {_TRY_AGAIN}", 5
    ),
    errors.QuotaExceeded: ProblemType(
        "quota-exceeded",
        429,
        "Quota exceeded",
        "The caller has had what it may have; `violated-policies` names the policy of the `RateLimit-Policy` header: "
        "`default` counts requests (`QAA_RATE_LIMIT`), `jobs` an API key's jobs that have not ended (`QAA_JOB_QUOTA`), "
        "`streams` a caller's open event streams and WebSockets (`QAA_STREAM_QUOTA`). "
        "Nothing was done. Wait at least as long as Retry-After says.",
        5,
    ),
    errors.TooManyStreams: ProblemType(
        "too-many-streams",
        503,
        "Too many streams",
        "`QAA_MAX_STREAMS` event streams and WebSockets are open already, but for those that are kept for administrators. "
        f"{_TRY_AGAIN} Polling works meanwhile.",
        5,
    ),
    errors.KeyInFlight: ProblemType(
        "idempotency-key-in-flight",
        409,
        "Idempotency key in flight",
        "The first request with this `Idempotency-Key` has not been answered yet. Send the same request again later.",
        1,
    ),
    errors.KeyReused: ProblemType(
        "idempotency-key-reused",
        422,
        "Idempotency key reused",
        "This `Idempotency-Key` came with another request before. Make a new key for each new request.",
    ),
    errors.TaskFailed: ProblemType(
        "task-failed",
        500,
        "Task failed",
        "The task raised an exception; the service's log has it. It may work when tried again.",
    ),
    errors.TaskTimeout: ProblemType(
        "task-timeout", 504, "Task timeout", "The task took longer than one attempt of it may."
    ),
    errors.TaskCrashed: ProblemType(
        "task-crashed",
        500,
        "Task crashed",
        "The process that ran the task died, and did so as often as `QAA_CRASH_LIMIT` allows: most likely the task kills it.",
    ),
    errors.ArgumentsOutdated: ProblemType(
        "arguments-outdated",
        500,
        "Arguments outdated",
        "The job waited while the service was changed, and its task takes other arguments now. Submit it anew.",
    ),
    errors.ResultUnusable: ProblemType(
        "result-unusable",
        500,
        "Result unusable",
        "The task returned something that is no JSON of its declared shape, or longer than `QAA_RESULT_MAX_BYTES`.",
    ),
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

BY_STATUS = {
    kind.status: kind
    for kind in (
        ProblemType(
            "bad-request",
            400,
            "Bad request",
            "The request could not be read: it is not well-formed. The detail says where.",
        ),
        ProblemType(
            "forbidden",
            403,
            "Forbidden",
            "The request was understood and is refused. The detail says what would be needed.",
        ),
        ProblemType("not-found", 404, "Not found", "Nothing is at this address."),
        ProblemType(
            "method-not-allowed",
            405,
            "Method not allowed",
            "This address does not take this method; the `Allow` header lists those that it takes.",
        ),
        ProblemType("request-timeout", 408, "Request timeout", "The request did not arrive in time."),
        ProblemType(
            "content-too-large",
            413,
            "Content too large",
            "The body is longer than `QAA_MAX_BODY_BYTES`. It was not read, and nothing was done.",
        ),
        ProblemType(
            "uri-too-long",
            414,
            "URI too long",
            "The query, or the path, of the address is longer than `QAA_MAX_QUERY_BYTES`. Nothing was done.",
        ),
        ProblemType(
            "unsupported-media-type",
            415,
            "Unsupported media type",
            "The body is of a type that is not taken here; the detail names the type to send.",
        ),
        ProblemType(
            "misdirected-request",
            421,
            "Misdirected request",
            "The request's `Host` is not a name of this service. Add the name to `QAA_ALLOWED_HOSTS` if it should be.",
        ),
        ProblemType(
            "upgrade-required",
            426,
            "Upgrade required",
            "This address is a WebSocket's. Ask for it with the handshake of RFC 6455, as a WebSocket client does.",
        ),
        ProblemType(
            "header-fields-too-large",
            431,
            "Header fields too large",
            "The header fields of the request are longer, all together, than `QAA_MAX_HEADER_BYTES`. Nothing was done.",
        ),
        ProblemType(
            "internal-server-error",
            500,
            "Internal server error",
            "The service failed. The log has the reason under this `request_id`.",
        ),
    )
}
TYPES: Mapping[str, ProblemType] = {kind.slug: kind for kind in (*BY_ERROR.values(), NOT_READY, *BY_STATUS.values())}


def kind_of(error: errors.ServiceError) -> ProblemType:
    """The type that belongs to an error: its own, or that of the nearest branch of the tree above it."""
    return next(BY_ERROR[base] for base in type(error).__mro__ if base in BY_ERROR)


def describe(error: errors.ServiceError) -> dict[str, object]:
    """The problem document of an error (RFC 9457 section 3.1), but for what belongs to one request for it."""
    kind = kind_of(error)
    document: dict[str, object] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": str(error) or kind.explanation,
    }
    if isinstance(error, errors.InvalidInput):
        document["errors"] = [{"pointer": entry.pointer, "detail": entry.detail} for entry in error.errors]
    if isinstance(error, errors.QuotaExceeded):
        document["violated-policies"] = [error.policy]
    if isinstance(error, errors.JobExpired):
        document |= {"id": error.job_id, "task": error.task, "finished_at": error.finished_at}
    return document
