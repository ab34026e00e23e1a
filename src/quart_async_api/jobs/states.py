"""What a job is: its states, its record, and the one document that every door shows of it."""

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from ..errors import Unreadable
from ..problem_types import describe

log = logging.getLogger(__name__)

# Where a job that has not ended is on its way to a worker: DELAYED until its `run_at`, HELD until fewer jobs of its slot run,
# READY to be claimed.
Stage = Literal["delayed", "held", "ready", "running"]
Part = Literal["args", "progress", "result", "error"]
PARTS: tuple[Part, ...] = ("progress", "args", "result", "error")  # columns of JSON
_KINDS: dict[str, type] = {"args": dict, "progress": dict, "result": object}
SHOWN_BYTES = {"args": 4_096, "result": 16_384}  # at most, in lists, events and callbacks; the monitor shows all of it
LEFT_OUT = ""  # no JSON: in place of a text that is too long for a list
unreadable: set[str] = set()  # what was found in the database that this version cannot read


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)

    @classmethod
    def is_terminal_name(cls, event: str) -> bool:
        """Whether an event of this name is the last of its job."""
        return event in (cls.SUCCEEDED, cls.FAILED, cls.CANCELLED)


def timestamp(moment: datetime) -> str:
    """RFC 3339 UTC with six digits, so that it sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """The datetime of a `timestamp`."""
    return datetime.fromisoformat(text)


def later(text: str, seconds: float) -> str:
    """The timestamp `seconds` after another."""
    return timestamp(moment(text) + timedelta(seconds=seconds))


def set_aside(what: str) -> Unreadable:
    """Log and count, once, a part of the database that cannot be read; the error that names it."""
    if what not in unreadable:
        unreadable.add(what)
        log.error("%s cannot be read: left out", what)
    return Unreadable(what)


def stored(text: str, what: str, kind: type = object) -> Any:
    """The value of a JSON text of the database. Raises Unreadable where it is none, or is not of this kind."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise set_aside(what) from None
    if not isinstance(value, kind):
        raise set_aside(what)
    return value


def stored_problem(text: str, what: str) -> dict[str, Any]:
    """A problem document of the database. Raises Unreadable."""
    found: dict[str, Any] = stored(text, what, dict)
    texts = [found.get(name) for name in ("type", "title", "detail")]
    status = found.get("status")
    if not all(isinstance(part, str) for part in texts) or type(status) is not int or not 400 <= status < 600:
        raise set_aside(what)
    return found


def shown_problem(text: str | None, what: str) -> dict[str, Any] | None:
    """The same to be shown: where it cannot be read, the problem that says so."""
    try:
        return None if text is None else stored_problem(text, what)
    except Unreadable as error:
        return describe(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A row of the jobs table. Times are timestamps; args, progress, result and error are JSON text."""

    id: str
    task: str
    status: Status
    args: str
    urgency: int
    max_attempts: int
    timeout: float | None
    created_at: str
    run_at: str
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    cancel_requested_at: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    run_token: str | None = None
    worker: str | None = None
    last_event: int = 0
    progress: str | None = None
    result: str | None = None
    error: str | None = None
    retry_of: str | None = None
    traceparent: str | None = None
    owner: str | None = None
    callback_url: str | None = None
    callback_events: str | None = None
    stage: Stage | None = None
    turn: int | None = None
    slot: str | None = None
    slot_limit: int | None = None
    bytes: int = 0

    @property
    def version(self) -> str:
        """Changes with whatever its document shows."""
        shown = (self.status, self.attempt, self.last_event, self.started_at, self.cancel_requested_at, self.progress)
        return hashlib.sha256(json.dumps((self.id, *shown)).encode()).hexdigest()[:32]

    def part(self, name: Part) -> Any:
        """The value of a column of JSON, None where the job has none. Raises Unreadable."""
        text, what = getattr(self, name), f"the {name} of job {self.id}"
        if text is None:
            return None
        return stored_problem(text, what) if name == "error" else stored(text, what, _KINDS[name])

    def document(self, *, whole: bool = True) -> dict[str, Any]:
        """The job as its callers see it; not `whole`: without arguments and a result that are too long to send along.

        A part that cannot be read is named in `unreadable`.
        """
        document: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "status": self.status.value,
            "priority": -self.urgency,
            "progress": None,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "created_at": self.created_at,
            "run_at": self.run_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "expires_at": self.expires_at,
            "cancel_requested_at": self.cancel_requested_at,
        }
        unreadable = []
        for name in PARTS:
            text = getattr(self, name)
            if text == LEFT_OUT or (not whole and text and len(text) > SHOWN_BYTES.get(name, len(text))):
                document[f"{name}_omitted"] = True
            elif text is not None:
                try:
                    document[name] = self.part(name)
                except Unreadable as error:
                    unreadable.append(name)
                    document |= {"error": describe(error)} if name == "error" else {f"{name}_omitted": True}
        if unreadable:
            document["unreadable"] = unreadable
        links = {
            "self": f"/jobs/{self.id}",
            "result": f"/jobs/{self.id}/result",
            "events": f"/jobs/{self.id}/events",
            "websocket": f"/jobs/{self.id}/ws",
            "callbacks": f"/jobs/{self.id}/callbacks",
        }
        if self.retry_of is not None:
            links["retry_of"] = f"/jobs/{self.retry_of}"
        return document | {"links": links}
