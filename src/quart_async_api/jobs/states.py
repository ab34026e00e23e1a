"""Jobs: their states, their record, and their JSON document, the same in all responses, events and callbacks."""

import hashlib
import json
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from ..errors import Unreadable
from ..problem_types import describe
from ..stored import stored, stored_problem

# The stage of a job that has not ended: delayed until its `run_at`, held until fewer jobs of its slot run, paused with its
# task, ready to be claimed, or running.
Stage = Literal["delayed", "held", "paused", "ready", "running"]
Part = Literal["args", "progress", "result", "error"]
PARTS: tuple[Part, ...] = ("progress", "args", "result", "error")  # columns of JSON
_KINDS: dict[str, type] = {"args": dict, "progress": dict, "result": object}
SHOWN_BYTES = {"args": 4_096, "result": 16_384}  # at most, in lists, events and callbacks; GET /jobs/{id} shows all
LEFT_OUT = ""  # not JSON: replaces a text that is too long for a list


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
        """Return whether an event of this name is the last of its job."""
        return event in (cls.SUCCEEDED, cls.FAILED, cls.CANCELLED)


class JobRecord(NamedTuple):
    """A row of the jobs table. Times are timestamps; args, progress, result and error are JSON text.

    A tuple, because it is made and changed several times for each job: that costs a tenth of a frozen dataclass.
    """

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
        """Hash of the members of the document that can change."""
        shown = (self.status, self.attempt, self.last_event, self.started_at, self.cancel_requested_at, self.progress)
        return hashlib.sha256(json.dumps((self.id, *shown)).encode()).hexdigest()[:32]

    def part(self, name: Part) -> Any:
        """Return the value of a JSON column, or None if it is empty. Raises Unreadable."""
        text, what = getattr(self, name), f"the {name} of job {self.id}"
        if text is None:
            return None
        return stored_problem(text, what) if name == "error" else stored(text, what, _KINDS[name])

    def document(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the job as JSON for callers. If not `whole`, leave out arguments and results above SHOWN_BYTES.

        `unreadable` lists the parts that cannot be read.
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
