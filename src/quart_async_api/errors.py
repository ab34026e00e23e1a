"""Every error that the service raises on purpose. Independent of HTTP: problem_types.py maps each to a status and type.

ServiceError
├── InvalidInput                 bad arguments, one entry per field
│   └── PageTooLarge
├── NestingTooDeep
├── MessageTooLarge              from a WebSocket client
├── Unauthorized                 no valid key
├── InsufficientScope            the key lacks a scope
├── UserNotFound
├── JobNotFound
├── JobExpired                   deleted; only a record of it is left
├── JobEnded                     the status of the job does not allow it
├── JobCancelled                 a cancelled job has no result
├── CallbackNotFound
├── TaskNotFound
├── TaskPaused                   its jobs wait; a call that waits is refused
├── TaskUnscheduled              only a task with a schedule can be started by its name
├── QueueFull
├── QuotaExceeded                a limit of the caller is reached
├── TooManyStreams
├── EmailTaken
├── StaleVersion                 the caller's copy is out of date
├── DataFileUnusable
├── Unreadable                   something stored is damaged, or of another version
├── KeyInFlight                  the first request with this Idempotency-Key still runs
│   └── KeyTaken                 a concurrent request used it first; its response is stored
├── KeyReused                    with a different request
├── TaskError                    failures of the task itself
│   ├── TaskFailed
│   ├── TaskTimeout
│   ├── TaskCrashed
│   ├── ArgumentsOutdated
│   └── ResultUnusable
├── UpstreamError
│   ├── UpstreamFailed           unreachable, an error status, or an invalid response
│   │   └── ComicNotFound
│   └── UpstreamTimeout
├── ResourceMissing              this process has not opened a resource that a task needs
├── DatabaseUnavailable          locked, full or gone; temporary
├── ShuttingDown
└── StartupError                 one line for the operator; the process ends
    ├── SettingsError
    ├── DatabaseBehind
    ├── DatabaseUnusable
    ├── AddressUnusable
    └── RouteTaken
"""

from dataclasses import dataclass
from traceback import walk_tb

MOST_ERRORS = 100  # in one response
_SUMMED_UP = 10  # of these, in the message


class ServiceError(Exception):
    """The service could not carry out the request."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in one field. `pointer` is a JSON Pointer in fragment form (RFC 6901 section 6): `#/name`."""

    pointer: str
    detail: str


class InvalidInput(ServiceError):
    """The input is invalid."""

    def __init__(self, *errors: FieldError) -> None:
        more = f"; and {len(errors) - _SUMMED_UP} more" if len(errors) > _SUMMED_UP else ""
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors[:_SUMMED_UP]) + more)
        self.errors = errors[:MOST_ERRORS]


class PageTooLarge(InvalidInput):
    """The requested page is too large."""


class NestingTooDeep(ServiceError):
    """The JSON is nested too deeply."""


class MessageTooLarge(ServiceError):
    """The message is too long."""


class Unauthorized(ServiceError):
    """The request needs a valid API key."""


class InsufficientScope(ServiceError):
    """The key's scopes do not allow this."""


class UserNotFound(ServiceError):
    """User not found"""


class JobNotFound(ServiceError):
    """Job not found"""


class JobExpired(ServiceError):
    """The job has expired."""

    def __init__(self, job_id: str, task: str, finished_at: str) -> None:
        super().__init__(f"this {task} job ended at {finished_at} and was deleted")
        self.job_id, self.task, self.finished_at = job_id, task, finished_at


class JobEnded(ServiceError):
    """The status of the job does not allow this operation."""


class JobCancelled(ServiceError):
    """The job was cancelled and has no result."""


class CallbackNotFound(ServiceError):
    """The job has no such callback."""


class TaskNotFound(ServiceError):
    """No task has this name."""


class TaskPaused(ServiceError):
    """The task is paused."""


class TaskUnscheduled(ServiceError):
    """The task has no schedule."""


class QueueFull(ServiceError):
    """The job queue is full."""


class QuotaExceeded(ServiceError):
    """The caller has reached the limit `policy`. Retry after `retry_after` seconds."""

    def __init__(self, policy: str, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.policy, self.retry_after = policy, retry_after


class TooManyStreams(ServiceError):
    """Too many event streams and WebSockets are open."""


class KeyInFlight(ServiceError):
    """A request with this Idempotency-Key is still running."""


class KeyReused(ServiceError):
    """This Idempotency-Key was used for a different request."""


class KeyTaken(KeyInFlight):
    """A concurrent request with this Idempotency-Key has been answered."""


class TaskError(ServiceError):
    """The task failed."""


class TaskFailed(TaskError):
    """The task raised an exception."""


class TaskTimeout(TaskError, TimeoutError):
    """The attempt exceeded its timeout."""


class TaskCrashed(TaskError):
    """The process died repeatedly while it ran this job."""


class ArgumentsOutdated(TaskError):
    """The arguments no longer fit the task."""


class ResultUnusable(TaskError):
    """The result is not JSON of the declared type, or is too long."""


class EmailTaken(ServiceError):
    """A user with this email already exists."""


class StaleVersion(ServiceError):
    """The resource has changed since it was read."""


class DataFileUnusable(ServiceError):
    """The data file is missing, unreadable or not JSON."""


class Unreadable(ServiceError):
    """Stored data cannot be read: `what` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} cannot be read")
        self.what = what


class UpstreamError(ServiceError):
    """An upstream service failed."""


class UpstreamFailed(UpstreamError):
    """The upstream was unreachable, or sent an error or an invalid response."""


class ComicNotFound(UpstreamFailed):
    """No comic has this number."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not respond in time."""


class ResourceMissing(ServiceError, LookupError):
    """This process has no such resource: `name`."""

    name = "such resource"  # of a subclass that does not say

    def __init__(self, name: str) -> None:
        super().__init__(f"this process has no {name}")
        self.name = name


class DatabaseUnavailable(ServiceError):
    """The database is temporarily unavailable; nothing was written."""


class ShuttingDown(ServiceError):
    """The service is shutting down and accepts no new work."""


class StartupError(ServiceError):
    """The service cannot start. The message is one line that names the remedy."""


class SettingsError(StartupError):
    """A setting is wrong or unknown."""


class DatabaseBehind(StartupError):
    """This version needs another database schema."""


class DatabaseUnusable(StartupError):
    """The database cannot be opened."""


class AddressUnusable(StartupError):
    """The address to listen on is in use, not local, or not safe to open."""


class RouteTaken(StartupError):
    """Two routes match the same requests."""


def told(error: Exception, module: str) -> str:
    """What an error says, on one line, with the last place in the package of `module`."""
    package = module.partition(".")[0]
    places = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] == package
        and not frame.f_code.co_filename.startswith("<")  # a type that is text
    ]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{places[-1] if places else ''}"
