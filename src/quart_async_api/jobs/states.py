"""What a job is: its states, its record, and the one document that every door shows of it."""

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

log = logging.getLogger(__name__)

# Where a job that has not ended is on its way to a worker: DELAYED until its `run_at`, HELD until fewer jobs of its slot run,
# READY to be claimed.
Stage = Literal["delayed", "held", "ready", "running"]
RESULT_SHOWN_BYTES = 16_384  # in lists, events and callbacks; the monitor shows all of it
ARGS_SHOWN_BYTES = 4_096  # in lists
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


def set_aside(what: str) -> None:
    """Log and count a part of the database that cannot be read. The rest is shown without it."""
    if what not in unreadable:
        unreadable.add(what)
        log.error("%s cannot be read: left out", what)


def stored(text: str, what: str) -> Any:
    """The value of a JSON text of the database; None where it is none, which is logged."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        set_aside(what)
        return None


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

    def document(self, *, whole: bool = True) -> dict[str, Any]:
        """The job as its callers see it; not `whole`: without a result that is too long to send along."""
        document: dict[str, Any] = {
            "id": self.id,
            "task": self.task,
            "status": self.status.value,
            "priority": -self.urgency,
            "progress": None if self.progress is None else stored(self.progress, f"the progress of job {self.id}"),
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "created_at": self.created_at,
            "run_at": self.run_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "expires_at": self.expires_at,
            "cancel_requested_at": self.cancel_requested_at,
        }
        args = None if self.args == LEFT_OUT else stored(self.args, f"args of job {self.id}")
        document |= {"args_omitted": True} if args is None else {"args": args}
        if self.result == LEFT_OUT or (self.result and not whole and len(self.result) > RESULT_SHOWN_BYTES):
            document["result_omitted"] = True
        elif self.result is not None:
            document["result"] = stored(self.result, f"the result of job {self.id}")
        if self.error is not None and (error := stored(self.error, f"the error of job {self.id}")) is not None:
            document["error"] = error
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
