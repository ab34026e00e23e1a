"""Messages between client and service, independent of an HTTP library."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from .documents import Job
from .errors import UnexpectedAnswer

T = TypeVar("T")
JobOrId = Job | str


@dataclass(frozen=True, slots=True)
class Request:
    """`repeatable`: may be sent again if it is unknown whether the service processed it."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    patience: float = 0.0  # additional seconds for the response


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise UnexpectedAnswer(f"status {self.status} with a body that is not JSON") from None


@dataclass(frozen=True, slots=True)
class Broken:
    """No reply arrived. `sent`: the request may have arrived."""

    error: Exception
    sent: bool


Steps = Generator[Request | Pause, Reply | Broken | None, T]


def parsed(parse: Callable[[Mapping[str, Any]], T], document: Any) -> T:
    """Raises UnexpectedAnswer."""
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedAnswer(f"not a document of this service: {error!r}") from error


def path_of(job: JobOrId, rest: str = "") -> str:
    return f"/jobs/{quote(job if isinstance(job, str) else job.id, safe='')}{rest}"
