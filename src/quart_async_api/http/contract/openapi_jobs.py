"""Parts of the OpenAPI document for all jobs: the callback, and the arguments of each task."""

from collections.abc import Mapping
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
            "operationId": CALLBACK_NAME,
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


def divide_by_task(submission: dict[str, Any], tasks: Mapping[str, Task], schemas: Schemas) -> None:
    """Divide the schema of a new job by task: each has a named schema with its arguments. Omit examples of other tasks."""
    content = submission["requestBody"]["content"]["application/json"]
    name = schemas.named(content["schema"])
    new_job = schemas.components[name]
    examples = [each for each in new_job["examples"] if each["task"] in tasks]
    common = {name: part for name, part in new_job.items() if name not in ("not", "examples")}
    runs = [_run_of(task, common, schemas) for task in tasks.values()]
    if len(runs) > 1:
        schemas.components |= {run["title"]: run for run in runs}
        new_job = {name: new_job[name] for name in ("title", "description", "not")}
        new_job["anyOf"] = [{"$ref": f"#/components/schemas/{run['title']}"} for run in runs]
    else:
        new_job |= runs[0] | {"title": new_job["title"]}
    schemas.components[name] = new_job | {"examples": examples}
    content["examples"] = {str(number): {"value": value} for number, value in enumerate(examples, 1)}


def _run_of(task: Task, common: dict[str, Any], schemas: Schemas) -> dict[str, Any]:
    members = common["properties"]
    arguments = schemas.of(task.arguments, "validation")
    has_needed = "required" in schemas.components[schemas.named(arguments)]
    return common | {
        "title": f"New{task.arguments.__name__.removesuffix('Arguments')}Job",
        "description": task.summary,
        "properties": members
        | {
            "task": {**members["task"], "const": task.name},
            "args": {"description": members["args"]["description"], **arguments},
        },
        "required": ["task", *(["args"] if has_needed else [])],
    }
