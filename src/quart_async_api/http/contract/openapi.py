"""The OpenAPI 3.1 document, made from the contracts of the routes (operations.py)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter
from pydantic_core import to_json
from quart import Quart, current_app

from ... import __version__
from ...problem_types import SLUG
from ...tasks import Task
from ..parts import EXTENSION
from .arguments import placed
from .documents import EVENT_STREAM, EXAMPLE_ID, JOB_ID, JobEvent, Problem
from .needs import COOKIE, Needs, needs_of
from .openapi_jobs import CALLBACK_NAME, JOB_EVENT, described_callback, divide_by_task
from .openapi_problems import (
    ADDRESS,
    EVERY_ANSWER,
    header_refs,
    problem_examples,
    problems_of,
    shared_responses,
)
from .openapi_schemas import Schemas, Shape
from .operations import ATTRIBUTE, Answer, Messages, Operation

if TYPE_CHECKING:
    from werkzeug.local import LocalProxy

_BUILT = "quart_async_api.openapi"
ABOUT = "quart_async_api.about"  # of an app: About
_DOCUMENTED = ("GET", "POST", "PATCH", "PUT", "DELETE")
Json = dict[str, Any]

# Access: the ways to authenticate, by name, and the default requirement of an operation.
SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key from `quart-async-api keys create`"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "of a browser that signed in; `__Host-qaa_session` over https",
    },
}
SECURITY: list[Json] = [{"bearer": []}, {"session": []}, {}]  # {}: without a key, until one is made

# The syntax of header values, which are plain text in the routes' signatures.
_PATH: Json = {
    "job_id": {"type": "string", "format": "uuid", "pattern": JOB_ID, "examples": [EXAMPLE_ID]},
    "user_id": {"type": "string", "pattern": "^[0-9]{1,19}$", "examples": ["1"]},
    "slug": {"type": "string", "pattern": f"^{SLUG}$", "examples": ["invalid-input"]},
}
_REQUEST_HEADERS: Json = {
    "Idempotency-Key": {
        "type": "string",
        "pattern": r'^(?:"(?:[ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]{1,255})$',
        "examples": ['"6f1c1f0e-6f0b-4c6c-9a52-6f9f8f0d6a11"'],
    },
    "Prefer": {"type": "string", "examples": ["respond-async"]},
}
_ANSWER_HEADERS: Json = {
    "X-Request-ID": {
        "description": "Id of the request, as sent or new; the log has it",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "RateLimit": {"description": "Remaining part of each limit", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limits of the caller", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 0}},
}
_TEXTS = {
    EVENT_STREAM: 'id: …:1\nevent: progress\ndata: {"current": 5}\n\n',
    "text/html": "<!doctype html>…",
    "text/plain": "…",
}


# Descriptions of the service's own tags.
_TAGS = {
    "Access": "Sign-in of browsers, and tickets for clients that cannot send a key",
    "Callbacks": "The signed requests by which the service reports the events of jobs",
    "Documents": "This document, and the documentation for people",
    "Health": "Probes and metrics",
    "Jobs": "Submit, watch, cancel and retry jobs, and read their results",
    "Operations": "Tasks, workers and figures of the running service",
    "Pages": "The console",
    "Routes": "Routes of tasks",
    "Tutorial": "The routes of the tutorials. Each runs a task, and delivers its result as the caller asks",
    "Users": "The users of the tutorials",
}
TITLE = "quart-async-api"
_DESCRIPTION = (
    "Each slow operation is a task. The caller of a route chooses how its result is delivered: wait for it, get a 202 with a "
    "job and poll, stream the job's events, or get a signed callback. Errors are problem details (RFC 9457)."
)
_OWN_INFO: Json = {
    "summary": "Slow work: callers wait, poll, stream or get a callback.",
    "contact": {"name": "The maintainers of quart-async-api"},
    "license": {"name": "MIT", "identifier": "MIT"},
}


@dataclass(frozen=True, slots=True)
class About:
    """Name and version of an API, the other members of its Info object (OpenAPI 3.1, section 4.8.2), and its tags."""

    title: str = TITLE
    version: str = __version__
    info: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)  # name: description

    def as_info(self) -> Json:
        own = _OWN_INFO if self.title == TITLE else {}
        return {"title": self.title, "version": self.version, "description": _DESCRIPTION, **own, **self.info}


def operations(app: Quart) -> Iterator[tuple[str, str, Operation, Needs]]:
    """Path, method, contract and needs of every route that has a contract, by path."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        view_class = getattr(view, "view_class", None)
        for method in _DOCUMENTED:
            if method in (rule.methods or ()):
                handler = getattr(view_class, method.lower()) if view_class else view
                if contract := getattr(handler, ATTRIBUTE, None):
                    path = re.sub(r"<(?:\w+(?:\([^>]*\))?:)?(\w+)>", r"{\1}", rule.rule)
                    yield path, method, placed(contract, method, tuple(sorted(rule.arguments))), needs_of(view, method)


def document(app: Quart) -> bytes:
    """Return the whole document, as JSON. Takes tens of milliseconds: build it once.

    OpenAPI does not describe WebSockets: `x-websockets` has them, by path.
    """
    about: About = app.extensions[ABOUT]
    every = list(operations(app))
    tasks = app.extensions[EXTENSION].tasks
    schemas = _schemas([contract for _, _, contract, _ in every], tasks.values())
    paths: dict[str, Json] = {}
    sockets: dict[str, Json] = {}
    for path, method, contract, needed in every:
        described = _operation(path, method, contract, needed, schemas)
        if contract.messages is None:
            paths.setdefault(path, {})[method.lower()] = described
        else:
            sockets[path] = described | _messages(contract.messages)
    job_event = described_callback(schemas)
    divide_by_task(paths["/jobs"]["post"], tasks, schemas)
    return to_json(
        {
            "openapi": "3.1.0",
            "info": about.as_info(),
            "servers": [{"url": "/"}],
            **({"security": SECURITY} if SECURITY else {}),
            "tags": _tags(about, {contract.tag for _, _, contract, _ in every}),
            "paths": paths,
            "x-websockets": sockets,
            "webhooks": {CALLBACK_NAME: {"$ref": JOB_EVENT}},
            "components": {
                "schemas": schemas.components,
                "pathItems": {JOB_EVENT.rpartition("/")[2]: job_event},
                "headers": _ANSWER_HEADERS,
                "examples": problem_examples(contract for _, _, contract, _ in every if contract.messages is None),
                "responses": shared_responses(),
                "securitySchemes": SECURITY_SCHEMES,
            },
        },
        indent=2,
    )


def _schemas(contracts: Sequence[Operation], tasks: Iterable[Task]) -> Schemas:
    shapes: list[Shape] = [(Problem, "serialization"), (JobEvent, "serialization")]
    shapes += [(task.arguments, "validation") for task in tasks]
    for contract in contracts:
        every = (answer for answers in contract.answers.values() for answer in answers)
        shapes += [(answer.shape, "serialization") for answer in every if answer.shape is not None]
        shapes += [(contract.body, "validation")] if contract.body is not None else []
    inline = (model for contract in contracts for model in (contract.path, contract.query) if model is not None)
    return Schemas(shapes, inline)


def _tags(about: About, used: set[str]) -> list[Json]:
    described = {**_TAGS, **about.tags}
    return [
        {"name": tag} | ({"description": described[tag]} if tag in described else {})
        for tag in sorted(used | about.tags.keys())
    ]


def openapi_document() -> bytes:
    """Return the OpenAPI document of the current app, as JSON."""
    # Built at the first request, when all routes are registered, and kept: building takes tens of milliseconds.
    if _BUILT not in current_app.extensions:
        current_app.extensions[_BUILT] = document(cast("LocalProxy[Quart]", current_app)._get_current_object())
    return cast("bytes", current_app.extensions[_BUILT])


def _operation(path: str, method: str, contract: Operation, needed: Needs, schemas: Schemas) -> Json:
    described: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()} {path.strip('/') or 'console'}").strip("_"),
        "tags": [contract.tag],
        "summary": contract.summary,
        "description": contract.description or contract.summary,
    }
    if needed.keyless:
        described["security"] = []
    if contract.deprecated:
        described["deprecated"] = True
    if parameters := list(_parameters(path, contract, schemas)):
        described["parameters"] = parameters
    if contract.body is not None:
        schema = schemas.of(contract.body, "validation")
        values = contract.body.model_json_schema().get("examples") or schemas.example(contract.body, "validation")
        examples = {str(number): {"value": value} for number, value in enumerate(values, 1)}
        content = {"schema": schema} | ({"examples": examples} if examples else {})
        described["requestBody"] = {"required": not contract.body_is_optional, "content": {"application/json": content}}
    answers = {str(status): _answers(status, each, schemas) for status, each in contract.answers.items()}
    described["responses"] = answers | {
        status: _merged(answers[status], answer) if status in answers else answer
        for status, answer in problems_of(contract).items()
    }
    if contract.callback is not None:
        described["callbacks"] = {CALLBACK_NAME: {f"{{{contract.callback}}}": {"$ref": JOB_EVENT}}}
    return described


def _messages(messages: Messages) -> Json:
    # Not as components: they would be ones that no operation uses.
    return {
        "sent": TypeAdapter(messages.sent).json_schema(mode="serialization"),
        "received": TypeAdapter(messages.received).json_schema(mode="validation"),
        "closeCodes": {str(code): why for code, why in messages.close_codes.items()},
    }


def _parameters(path: str, contract: Operation, schemas: Schemas) -> Iterator[Json]:
    own = {} if contract.path is None else schemas.whole(contract.path)["properties"]
    for name in re.findall(r"{(\w+)}", path):
        schema = _PATH.get(name, {"type": "string"}) if name not in own else _without_default(own[name])
        yield _parameter(name, "path", True, schema)
    if contract.query is not None:
        schema = schemas.whole(contract.query)
        for name, field in schema.get("properties", {}).items():
            yield _parameter(name, "query", name in schema.get("required", ()), _present(field))
    for name, text in contract.headers.items():
        yield _parameter(name, "header", False, _REQUEST_HEADERS.get(name, {"type": "string"}), text)


def _parameter(name: str, where: str, required: bool, schema: Json, description: str = "") -> Json:
    described = {"name": name, "in": where, "required": required, "schema": schema}
    if text := description or schema.get("description"):
        described["description"] = text
    return described | ({"example": schema["examples"][0]} if "examples" in schema else {})


def _present(schema: Json) -> Json:
    """Return the schema without null: a query omits the value instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {**choices[0], **{name: value for name, value in schema.items() if name not in ("anyOf", "default")}}


def _without_default(schema: Json) -> Json:
    return {name: value for name, value in _present(schema).items() if name != "default"}


def _answers(status: int, answers: tuple[Answer, ...], schemas: Schemas) -> Json:
    described: Json = {"description": "; or ".join(answer.description for answer in answers)}
    headers = {name: text for answer in answers for name, text in answer.headers.items()}
    if status >= 200:
        described["headers"] = header_refs(*EVERY_ANSWER) | {
            name: {"description": text, "schema": ADDRESS if name == "Location" else {"type": "string"}}
            for name, text in headers.items()
        }
    content = {answer.media_type: _content(answer, schemas) for answer in answers if answer.shape is not None}
    return described | ({"content": content} if content else {})


def _content(answer: Answer, schemas: Schemas) -> Json:
    schema = schemas.of(answer.shape, "serialization")
    if answer.media_type == EVENT_STREAM:  # to OpenAPI 3.1 a text; what it contains is said as JSON Schema does
        events = {"type": "array", "items": schema}
        schema = {"type": "string", "contentMediaType": EVENT_STREAM, "contentSchema": events}
    given = answer.example if answer.example is not None else _TEXTS.get(answer.media_type)
    examples = [given] if given is not None else schemas.example(answer.shape, "serialization")
    return {"schema": schema} | ({"example": examples[0]} if examples else {})


def _merged(answer: Json, problem: Json) -> Json:
    """Return the response of one status that has a page or a problem as its body."""
    content = {"content": answer.get("content", {}) | problem["content"]}
    return answer | content | {"description": f"{answer['description']}; or {problem['description']}"}
