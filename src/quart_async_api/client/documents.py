"""Typed documents of the service. Unknown members are ignored, so that a newer service can send more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class FieldFault:
    """An error in one field. `pointer` is a JSON Pointer in fragment form (RFC 6901): `#/args/number`."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457 problem details. `document` has all members."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldFault, ...]
    request_id: str | None
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Mapping[str, Any], status: int = 500) -> Self:
        return cls(
            str(document.get("type", "about:blank")),
            str(document.get("title", "")),
            int(document.get("status", status)),
            str(document.get("detail", "")),
            tuple(FieldFault(str(entry["pointer"]), str(entry["detail"])) for entry in document.get("errors", ())),
            document.get("request_id"),
            document,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run. `percent` is None if `total` is."""

    current: float
    total: float | None
    percent: float | None
    message: str | None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["current"], document.get("total"), document.get("percent"), document.get("message"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has ended: as `succeeded`, `failed`, `cancelled` or `crashed`."""

    number: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    error: Problem | None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        error = document.get("error")
        return cls(
            document["number"],
            datetime.fromisoformat(document["started_at"]),
            datetime.fromisoformat(document["finished_at"]),
            document["outcome"],
            None if error is None else Problem.parse(error),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job in its state at the time of the response.

    `result` is None until the job has succeeded, and if `result_omitted`: only `get`, `wait` and `result` return a long
    result. `args` is empty if `args_omitted`: lists, events and callbacks leave out long arguments. Only `get` and `wait`
    fill `attempts`.
    """

    id: str
    task: str
    status: Status
    args: Mapping[str, Any]
    args_omitted: bool
    priority: int
    progress: Progress | None
    attempt: int
    max_attempts: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    result: Any
    result_omitted: bool
    error: Problem | None
    retry_of: str | None
    attempts: tuple[Attempt, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        progress, error = document.get("progress"), document.get("error")
        retry_of = document.get("links", {}).get("retry_of")
        return cls(
            id=document["id"],
            task=document["task"],
            status=Status(document["status"]),
            args=document.get("args", {}),
            args_omitted=bool(document.get("args_omitted", False)),
            priority=document["priority"],
            progress=None if progress is None else Progress.parse(progress),
            attempt=document["attempt"],
            max_attempts=document["max_attempts"],
            created_at=datetime.fromisoformat(document["created_at"]),
            run_at=datetime.fromisoformat(document["run_at"]),
            started_at=_moment(document.get("started_at")),
            finished_at=_moment(document.get("finished_at")),
            expires_at=_moment(document.get("expires_at")),
            cancel_requested_at=_moment(document.get("cancel_requested_at")),
            result=document.get("result"),
            result_omitted=bool(document.get("result_omitted", False)),
            error=None if error is None else Problem.parse(error),
            retry_of=None if retry_of is None else retry_of.rpartition("/")[2],
            attempts=tuple(Attempt.parse(attempt) for attempt in document.get("attempts", ())),
        )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Task:
    """A task that can be submitted. The schemas are JSON Schema; `timeout` is in seconds, for one attempt."""

    name: str
    summary: str
    args_schema: Mapping[str, Any]
    result_schema: Mapping[str, Any]
    retries: int
    timeout: float | None
    run_in: str
    schedule: str | None
    queue: str
    paused_at: datetime | None = None
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            document["name"],
            document["summary"],
            document["args_schema"],
            document["result_schema"],
            document["retries"],
            document.get("timeout"),
            document.get("run_in", "loop"),
            document.get("schedule"),
            document.get("queue", "default"),
            _moment(document.get("paused_at")),
            _moment(document.get("next_run_at")),
            _moment(document.get("last_run_at")),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a job.

    `snapshot`, `resync` and the last one (`succeeded`, `failed`, `cancelled`) have its `job`, `progress` has `progress`,
    `log` has `text`, and `retry` has `attempt`, the number of the attempt that ended. `data` has all members; a stream can
    resume after `id`.
    """

    name: str
    id: str | None
    data: Mapping[str, Any] = field(repr=False)
    job: Job | None = None
    progress: Progress | None = None
    text: str | None = None
    attempt: int | None = None

    @property
    def is_terminal(self) -> bool:
        return self.name in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

    @classmethod
    def parse(cls, name: str, id_: str | None, data: Mapping[str, Any]) -> Self:
        match name:
            case "snapshot" | "resync" | "succeeded" | "failed" | "cancelled":
                return cls(name, id_, data, job=Job.parse(data))
            case "progress":
                return cls(name, id_, data, progress=Progress.parse(data))
            case "log":
                return cls(name, id_, data, text=data["text"], attempt=data.get("attempt"))
            case "retry":
                return cls(name, id_, data, attempt=data.get("attempt"))
        return cls(name, id_, data)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process on the database. `running`: ids of the jobs that it runs."""

    id: str
    host: str | None
    pid: int | None
    engine: str | None
    started_at: datetime
    last_beat_at: datetime | None
    running: tuple[str, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            document["id"],
            document.get("host"),
            document.get("pid"),
            document.get("engine"),
            datetime.fromisoformat(document["started_at"]),
            _moment(document.get("last_beat_at")),
            tuple(document["running"]),
        )


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback of a job, `pending`, `delivered` or `failed`. `document` has all members, with its attempts."""

    id: str
    job_id: str
    url: str
    type: str
    status: str
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["id"], document["job_id"], document["url"], document["type"], document["status"], document)
