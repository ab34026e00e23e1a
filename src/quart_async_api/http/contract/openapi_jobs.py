"""Parts of the OpenAPI document for all jobs: the callback, and the arguments of each task."""

from collections.abc import Iterable
from typing import Any

from ...tasks import Task
from .documents import EXAMPLE_ID, JobEvent
from .openapi_schemas import Schemas, example

CALLBACK_NAME = "onJobEvent"
JOB_EVENT = "#/components/pathItems/JobEvent"

_HEADERS = {
    "webhook-id": ("The same in every try: process it once", {"type": "string"}, f"msg_{EXAMPLE_ID}"),
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
            "description": "Signed. Retried until a 2xx response. In order per origin. Redirects are not followed.",
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": text, "schema": kind, "example": value}
                for name, (text, kind, value) in _HEADERS.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "2XX": {"description": "Received"},
                "410": {"description": "Nothing more is sent to this URL"},
                "default": {"description": "Not received: retried later"},
            },
        }
    }


def each_task(tasks: Iterable[Task], schemas: Schemas) -> dict[str, Any]:
    """Return the per-task schema of `args`."""
    return {"oneOf": [_run_of(task, schemas) for task in tasks]}


def _run_of(task: Task, schemas: Schemas) -> dict[str, Any]:
    arguments = schemas.of(task.arguments, "validation")
    needed = ["args"] if schemas.whole(task.arguments).get("required") else []
    return {"properties": {"task": {"const": task.name}, "args": arguments}, "required": ["task", *needed]}
