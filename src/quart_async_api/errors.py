"""Every error the service raises on purpose. Knows no HTTP: problem_types.py gives each its status and type.

ServiceError
├── InvalidInput                 bad arguments, one entry a field
│   └── PageTooLarge
├── NestingTooDeep
├── MessageTooLarge              of a WebSocket's client
├── Unauthorized                 no key, or none that counts
├── InsufficientScope            a key that may not do this
├── UserNotFound
├── JobNotFound
├── JobExpired                   it was there; a tombstone is left
├── JobEnded                     too late to change what is over
├── JobCancelled                 there is no result, and will be none
├── CallbackNotFound
├── QueueFull
├── QuotaExceeded                the caller has had what it may have
├── TooManyStreams
├── EmailTaken
├── StaleVersion                 the caller's copy is out of date
├── DataFileUnusable
├── KeyInFlight                  the first request with this Idempotency-Key is not done
│   └── KeyTaken                 another request got ahead with it; its answer is there
├── KeyReused                    for another request than the first
├── TaskError                    how a run can fail by itself
│   ├── TaskFailed
│   ├── TaskTimeout
│   ├── TaskCrashed
│   ├── ArgumentsOutdated
│   └── ResultUnusable
├── UpstreamError
│   ├── UpstreamFailed           unreachable, an error status, or nonsense
│   │   └── ComicNotFound
│   └── UpstreamTimeout
├── DatabaseUnavailable          locked, full, gone; worth trying again
├── ShuttingDown
└── StartupError                 one line for the operator; the process ends
    ├── SettingsError
    ├── DatabaseBehind
    ├── DatabaseUnusable
    └── AddressUnusable
"""

from dataclasses import dataclass


class ServiceError(Exception):
    """The service could not do what was asked."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field. `pointer` is a JSON Pointer in fragment form (RFC 6901 section 6): `#/name`."""

    pointer: str
    detail: str


class InvalidInput(ServiceError):
    """The input does not have the shape that is asked for."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


class PageTooLarge(InvalidInput):
    """More is asked for than fits on a page."""


class NestingTooDeep(ServiceError):
    """The JSON has more levels than are read."""


class MessageTooLarge(ServiceError):
    """The message is longer than is taken."""


class Unauthorized(ServiceError):
    """An API key is needed, and none that counts came with the request."""


class InsufficientScope(ServiceError):
    """The key's scopes do not allow this."""


class UserNotFound(ServiceError):
    """User not found"""


class JobNotFound(ServiceError):
    """Job not found"""


class JobExpired(ServiceError):
    """The job has expired."""

    def __init__(self, job_id: str, task: str, finished_at: str) -> None:
        super().__init__(f"this {task} job ended at {finished_at} and is not kept any longer")
        self.job_id, self.task, self.finished_at = job_id, task, finished_at


class JobEnded(ServiceError):
    """The job is over, or in a state from which it cannot do that."""


class JobCancelled(ServiceError):
    """The job was cancelled, and has no result."""


class CallbackNotFound(ServiceError):
    """The job has no such callback."""


class QueueFull(ServiceError):
    """As many jobs wait as may."""


class QuotaExceeded(ServiceError):
    """The caller has had what `policy` allows it; worth trying again in `retry_after` seconds."""

    def __init__(self, policy: str, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.policy, self.retry_after = policy, retry_after


class TooManyStreams(ServiceError):
    """As many event streams and WebSockets are open as may be."""


class KeyInFlight(ServiceError):
    """A request with this Idempotency-Key is being handled."""


class KeyReused(ServiceError):
    """This Idempotency-Key was used for another request."""


class KeyTaken(KeyInFlight):
    """A request with this Idempotency-Key has been answered."""


class TaskError(ServiceError):
    """A run of a task failed by itself."""


class TaskFailed(TaskError):
    """The task raised an exception."""


class TaskTimeout(TaskError, TimeoutError):
    """The attempt took longer than it may."""


class TaskCrashed(TaskError):
    """The process died while it ran this, again and again."""


class ArgumentsOutdated(TaskError):
    """The arguments do not fit the task any longer."""


class ResultUnusable(TaskError):
    """The result is no JSON of the declared shape, or too long."""


class EmailTaken(ServiceError):
    """A user with this email exists already."""


class StaleVersion(ServiceError):
    """The resource has changed since it was read."""


class DataFileUnusable(ServiceError):
    """The data file is missing, unreadable or no JSON."""


class UpstreamError(ServiceError):
    """A service that this one depends on let it down."""


class UpstreamFailed(UpstreamError):
    """It could not be reached, answered with an error, or with nonsense."""


class ComicNotFound(UpstreamFailed):
    """There is no comic with this number."""


class UpstreamTimeout(UpstreamError):
    """It did not answer in time."""


class DatabaseUnavailable(ServiceError):
    """The database cannot be used right now; nothing was written."""


class ShuttingDown(ServiceError):
    """The service is shutting down and takes no new work."""


class StartupError(ServiceError):
    """The service cannot start. The message is one line that says what to do."""


class SettingsError(StartupError):
    """A setting is wrong or unknown."""


class DatabaseBehind(StartupError):
    """The database's schema is not the one that this version needs."""


class DatabaseUnusable(StartupError):
    """The database cannot be opened."""


class AddressUnusable(StartupError):
    """The address to listen on is taken, not ours, or not safe to open."""
