"""The shapes of what is sent about jobs, for the documents; jobs/states.py makes them."""

from typing import Any, NotRequired

from pydantic import JsonValue
from typing_extensions import TypedDict


class Progress(TypedDict):
    current: float
    total: float | None
    percent: float | None
    message: str | None


class Links(TypedDict):
    self: str
    result: str
    events: str
    websocket: str
    retry_of: NotRequired[str]


class Attempt(TypedDict):
    number: int
    started_at: str
    finished_at: str
    outcome: str
    error: dict[str, Any] | None


class Job(TypedDict):
    id: str
    task: str
    status: str
    args: dict[str, Any]
    priority: int
    progress: Progress | None
    attempt: int
    max_attempts: int
    created_at: str
    run_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    cancel_requested_at: str | None
    result: NotRequired[JsonValue]
    result_omitted: NotRequired[bool]
    error: NotRequired[dict[str, Any]]
    links: Links
    attempts: NotRequired[list[Attempt]]


class Jobs(TypedDict):
    items: list[Job]
    next: str | None


class Started(TypedDict):
    message: str
    job: Job


class TaskDescription(TypedDict):
    name: str
    summary: str
    args_schema: dict[str, Any]
    result_schema: dict[str, Any]
    retries: int
    backoff: dict[str, float]
    timeout: float | None
    run_in: str
    schedule: str | None


class Tasks(TypedDict):
    items: list[TaskDescription]
