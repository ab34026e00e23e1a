"""The shapes of job documents and events, for OpenAPI; jobs/states.py makes the documents."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from ...jobs.states import Status

EVENT_STREAM = "text/event-stream"
EXAMPLE_ID = "019aa3c4-5e60-7d21-9f3b-6b2f0c1d8e47"
JOB_ID = r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

Id = Annotated[str, Field(pattern=JOB_ID, examples=[EXAMPLE_ID], json_schema_extra={"format": "uuid"})]
Time = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        examples=["2026-11-21T07:32:57.686472Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
Address = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]


def _of(path: str) -> Any:
    return Field(examples=[f"/jobs/{EXAMPLE_ID}{path}"])


class Progress(TypedDict):
    current: Annotated[float, Field(examples=[5])]
    total: Annotated[float | None, Field(examples=[10])]
    percent: Annotated[float | None, Field(examples=[50.0])]
    message: str | None


class Links(TypedDict):
    self: Annotated[Address, _of("")]
    result: Annotated[Address, _of("/result")]
    events: Annotated[Address, _of("/events")]
    websocket: Annotated[Address, _of("/ws")]
    callbacks: Annotated[Address, _of("/callbacks")]
    retry_of: NotRequired[Address]


class JobProblem(TypedDict):
    """RFC 9457 problem details, without the members of a single request."""

    type: Annotated[Address, Field(examples=["/problems/task-failed"])]
    title: Annotated[str, Field(examples=["Task failed"])]
    status: Annotated[int, Field(ge=400, le=599, examples=[500])]
    detail: str


class FieldProblem(TypedDict):
    pointer: str
    detail: str


class Problem(TypedDict):
    """RFC 9457 problem details. `error` is a copy of `title`, for older clients."""

    type: Annotated[Address, Field(description="Address of the page about this problem type")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="What happened in this request")]
    instance: Address
    request_id: str | None
    error: str
    errors: NotRequired[Annotated[list[FieldProblem], Field(description="For invalid input: one entry per field")]]


class Attempt(TypedDict):
    number: Annotated[int, Field(ge=1, examples=[1])]
    started_at: Time
    finished_at: Time
    outcome: Annotated[str, Field(examples=["succeeded"])]
    error: JobProblem | None
    traceback: NotRequired[str]


class Job(TypedDict):
    id: Id
    task: Annotated[str, Field(examples=["report"])]
    status: Status
    args: NotRequired[Annotated[dict[str, Any], Field(examples=[{}])]]
    args_omitted: NotRequired[bool]
    priority: Annotated[int, Field(ge=-100, le=100, examples=[0])]
    progress: Progress | None
    attempt: Annotated[int, Field(ge=0, examples=[0])]
    max_attempts: Annotated[int, Field(ge=1, examples=[1])]
    created_at: Time
    run_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time | None
    cancel_requested_at: Time | None
    result: NotRequired[JsonValue]
    result_omitted: NotRequired[bool]
    error: NotRequired[JobProblem]
    unreadable: NotRequired[list[Literal["args", "progress", "result", "error"]]]
    links: Links
    attempts: NotRequired[list[Attempt]]


class Jobs(TypedDict):
    items: list[Job]
    next: Annotated[str | None, Field(json_schema_extra={"format": "uri"})]


class Matching(TypedDict):
    matching: Annotated[int, Field(ge=0, examples=[3])]


class Started(TypedDict):
    message: Annotated[str, Field(examples=["Task started"])]
    job: Job


class JobEvent(TypedDict):
    """The body of a callback (Standard Webhooks 1.0)."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled", "job.progress"]
    timestamp: Time
    data: Job


EventName = Literal["snapshot", "progress", "log", "retry", "succeeded", "failed", "cancelled", "resync", "draining"]


class ServerSentEvent(TypedDict):
    """One event of the stream. `data` is JSON: the job document or the content of the event."""

    event: EventName
    id: NotRequired[Annotated[str, Field(examples=[f"{EXAMPLE_ID}:3"])]]
    data: Annotated[str, Field(examples=['{"current": 5}'], json_schema_extra={"contentMediaType": "application/json"})]


class Message(TypedDict):
    """An event as a WebSocket message. `error` is the response to an invalid message."""

    event: EventName | Literal["error"]
    id: str | None
    data: dict[str, Any]


class Cancel(TypedDict):
    """The only message that a client sends."""

    type: Literal["cancel"]


class CallbackAttempt(TypedDict):
    number: int
    at: str
    status: int | None
    error: str | None
    body: str | None


class CallbackDelivery(TypedDict):
    id: str
    url: str
    type: str
    status: Literal["pending", "delivered", "failed"]
    next_attempt_at: str | None
    attempts: list[CallbackAttempt]


class Callbacks(TypedDict):
    items: list[CallbackDelivery]


class JobCallbackDelivery(CallbackDelivery):
    job_id: Id


class CallbacksPage(TypedDict):
    items: list[JobCallbackDelivery]
    next: Annotated[str | None, Field(json_schema_extra={"format": "uri"})]


class Worker(TypedDict):
    """A process that is registered. A process of an older version has no host, pid, engine and last_beat_at."""

    id: Id
    host: Annotated[str | None, Field(examples=["web-1"])]
    pid: Annotated[int | None, Field(examples=[4711])]
    engine: Annotated[str | None, Field(examples=["embedded"])]
    started_at: Time
    last_beat_at: Time | None
    running: Annotated[list[Id], Field(examples=[[EXAMPLE_ID]])]


class Workers(TypedDict):
    items: list[Worker]


class TaskDescription(TypedDict):
    name: Annotated[str, Field(examples=["test"])]
    summary: Annotated[str, Field(examples=["Wait for the delay. Any number of calls wait at the same time."])]
    args_schema: Annotated[dict[str, Any], Field(examples=[{"type": "object", "properties": {}}])]
    result_schema: Annotated[dict[str, Any], Field(examples=[{"type": "object"}])]
    retries: Annotated[int, Field(examples=[0])]
    backoff: Annotated[dict[str, float], Field(examples=[{"initial": 1.0, "factor": 2.0, "maximum": 300.0}])]
    timeout: float | None
    run_in: Annotated[str, Field(examples=["loop"])]
    schedule: str | None
    queue: Annotated[str, Field(examples=["default"])]
    paused_at: Time | None
    next_run_at: Time | None
    last_run_at: Time | None


class Tasks(TypedDict):
    items: list[TaskDescription]
