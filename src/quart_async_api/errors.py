"""Every error the service raises on purpose. Knows no HTTP: problem_types.py gives each its status and type.

ServiceError
├── InvalidInput                 bad arguments, one entry a field
├── UserNotFound
├── JobNotFound
├── EmailTaken
├── StaleVersion                 the caller's copy is out of date
├── DataFileUnusable
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


class UserNotFound(ServiceError):
    """User not found"""


class JobNotFound(ServiceError):
    """Job not found"""


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
