"""What the OpenAPI document says of jobs beyond one operation: the callback about them, and the tasks that they run."""

from collections.abc import Iterable
from typing import Any

from ..tasks import Task
from .documents import EXAMPLE_ID, JobEvent
from .openapi_schemas import Schemas, example

CALLBACK_NAME = "onJobEvent"
JOB_EVENT = "#/components/pathItems/JobEvent"

_HEADERS = {
    "webhook-id": ("The same for every try: act on it once", {"type": "string"}, f"msg_{EXAMPLE_ID}"),
    "webhook-timestamp": ("Unix time of this try", {"type": "integer"}, 1795246377),
    "webhook-signature": (
        "`v1,` and the base64 of the HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`, one for each secret",
        {"type": "string"},
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
}


def described_callback(schemas: Schemas) -> dict[str, Any]:
    """The path item of a callback: one POST of one event of a job (Standard Webhooks 1.0)."""
    schema = schemas.of(JobEvent, "serialization")
    content = {"schema": schema, "example": example(schema, schemas.components)}
    return {
        "post": {
            "summary": "An event of the job",
            "description": "Signed, tried again until it is received, in order for each origin, never sent to a redirect.",
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": text, "schema": kind, "example": value}
                for name, (text, kind, value) in _HEADERS.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "2XX": {"description": "Received"},
                "410": {"description": "Nothing is sent to this address again"},
                "default": {"description": "Not received: it is tried again later"},
            },
        }
    }


def each_task(tasks: Iterable[Task], schemas: Schemas) -> dict[str, Any]:
    """What a new job's body is besides: the arguments are those of its task."""
    return {"oneOf": [_run_of(task, schemas) for task in tasks]}


def _run_of(task: Task, schemas: Schemas) -> dict[str, Any]:
    arguments = schemas.of(task.arguments, "validation")
    needed = ["args"] if schemas.whole(task.arguments).get("required") else []
    return {"properties": {"task": {"const": task.name}, "args": arguments}, "required": ["task", *needed]}
