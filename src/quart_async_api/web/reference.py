"""The OpenAPI document as the pages show it: each named shape once, fields for a form, and a `curl` per operation."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import from_json, to_json

from ..problem_types import CONTENT_TYPE
from .fields import Field, Schema, body_fields, parameters, resolved, type_text

_FIRST = ("Tutorial", "Jobs", "Callbacks", "Users")  # tags
# The name of a shape in the text of another shape: members begin with a quote, types with a small letter.
NAME = re.compile(r"(?<![\"\w])[A-Z][a-z]\w+")


@dataclass(frozen=True, slots=True)
class Response:
    """One status of an operation. `shapes` maps media types to bodies; `problems` are slugs of problem types."""

    status: str
    description: str
    headers: Mapping[str, str]
    shapes: Mapping[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Documented:
    """One operation of the document, or the run of a `task`. `messages` are the shapes of the messages of a WebSocket."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    deprecated: bool
    fields: tuple[Field, ...]
    has_body: bool
    task: str
    responses: tuple[Response, ...]
    messages: Mapping[str, str]

    @property
    def target(self) -> str:
        """The path with examples instead of parameters."""
        return re.sub(r"{(\w+)}", lambda found: quote(self._example(found[1]), safe=""), self.path)

    @property
    def is_delivered(self) -> bool:
        """Whether its caller chooses how the outcome is delivered."""
        return {"callback_url", "Prefer"} <= {field.name for field in self.fields}

    def _example(self, name: str) -> str:
        return next(field.example for field in self.fields if field.name == name)

    def curl(self, base: str) -> str:
        """Return the command that sends the example to the service at `base`; static/request.js does this for forms."""
        needed = [field for field in self.fields if field.required]
        query = urlencode([(field.name, field.example) for field in needed if field.where == "query"], quote_via=quote)
        url = base.rstrip("/") + self.target + (f"?{query}" if query else "")
        if self.messages:
            url = re.sub("^http", "ws", url)
        words = ["curl", *(() if self.method == "GET" else ("-X", self.method)), url]
        body: dict[str, Any] = {
            field.name: field.value
            for field in self.fields
            if field.where == "body" and field.example and (field.required or field.example != field.default)
        }
        if self.task:
            args = {field.name: field.value for field in needed if field.where == "args"}
            body = {"task": self.task} | ({"args": args} if args else {})
        if self.has_body:
            words += ["-H", "Content-Type: application/json", "-d", to_json(body).decode()]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Reference:
    """An OpenAPI document as pages. `shapes` has the named shapes of its operations."""

    operations: tuple[Documented, ...]
    shapes: Mapping[str, str]

    def shapes_of(self, operation: Documented) -> dict[str, str]:
        """Return the shapes that an operation names, and those that these name."""
        found: dict[str, str] = {}
        named = _named_in(_shapes_of(operation))
        while missing := sorted((named & self.shapes.keys()) - found.keys()):
            found |= {name: self.shapes[name] for name in missing}
            named |= _named_in(found[name] for name in missing)
        return dict(sorted(found.items()))


@lru_cache(maxsize=8)
def reference(document: bytes) -> Reference:
    """Read an OpenAPI document. Its operations are sorted by path."""
    api = from_json(document)
    schemas = api["components"]["schemas"]
    sockets = {path: {"get": operation} for path, operation in api["x-websockets"].items()}
    operations = tuple(
        _documented(path, method, operation, schemas)
        for path, methods in sorted((api["paths"] | sockets).items())
        for method, operation in methods.items()
    )
    named = _named_in(shape for operation in operations for shape in _shapes_of(operation)) & schemas.keys()
    shapes: dict[str, str] = {}
    while missing := sorted(named - shapes.keys()):
        shapes |= {name: _shape(schemas[name], schemas) for name in missing}
        named |= _named_in(shapes[name] for name in missing) & schemas.keys()
    return Reference(operations, shapes)


def run_of(task: str, summary: str, arguments: Schema, jobs: Documented) -> Documented:
    """Return the call that runs a task: `jobs`, which is POST /jobs, with a field for each of the task's arguments."""
    own = tuple(body_fields(arguments, arguments.get("$defs", {}), "args"))
    others = tuple(field for field in jobs.fields if field.name not in ("task", "args"))
    id = f"task-{quote(task, safe='')}"  # a name may have blanks
    return replace(jobs, id=id, task=task, summary=summary.rstrip("."), description="", fields=own + others)


def by_tag(operations: Iterable[Documented]) -> list[tuple[str, list[Documented]]]:
    """Return the operations in groups: the tags in the order of the pages, then those of apps."""
    groups: dict[str, list[Documented]] = {}
    for each in operations:
        groups.setdefault(each.tag, []).append(each)
    return sorted(
        groups.items(), key=lambda group: (_FIRST.index(group[0]) if group[0] in _FIRST else len(_FIRST), group[0])
    )


def _shapes_of(operation: Documented) -> Iterator[str]:
    for response in operation.responses:
        yield from response.shapes.values()
    yield from operation.messages.values()


def _named_in(shapes: Iterable[str]) -> set[str]:
    return {found for shape in shapes for found in NAME.findall(shape)}


def _documented(path: str, method: str, operation: Mapping[str, Any], schemas: Schema) -> Documented:
    content = operation.get("requestBody", {}).get("content", {})
    body = next((resolved(media["schema"], schemas) for media in content.values()), None)
    return Documented(
        operation["operationId"],
        method.upper(),
        path,
        operation["tags"][0],
        operation["summary"],
        operation["description"],
        operation.get("deprecated", False),
        (*parameters(operation, schemas), *(body_fields(body, schemas) if body else ())),
        body is not None,
        "",
        tuple(
            _response(status, answer, schemas)
            for status, answer in operation["responses"].items()
            if "$ref" not in answer
        ),
        {name: _shape(operation[name], schemas) for name in ("sent", "received") if name in operation},
    )


def _response(status: str, answer: Mapping[str, Any], schemas: Schema) -> Response:
    content = answer.get("content", {})
    return Response(
        status,
        answer["description"],
        {name: header["description"] for name, header in answer.get("headers", {}).items() if "description" in header},
        {name: _shape(media["schema"], schemas) for name, media in content.items() if name != CONTENT_TYPE},
        tuple(content.get(CONTENT_TYPE, {}).get("examples", ())),
    )


def _shape(schema: Schema, schemas: Schema, indent: str = "") -> str:
    """Return the schema as JSON with types for values. A reference to an object becomes its name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if "properties" in schemas[name] else _shape(schemas[name], schemas, indent)
    if "anyOf" in schema:
        return " or ".join(_shape(each, schemas, indent) for each in schema["anyOf"])
    if "contentSchema" in schema:
        return _shape(schema["contentSchema"], schemas, indent)
    deeper = indent + "  "
    if schema.get("type") == "array":
        return f"[{_shape(schema.get('items', {}), schemas, indent)}, …]"
    if schema.get("type") != "object":
        return type_text(schema, schemas)
    members = [f'"{name}": {_shape(each, schemas, deeper)}' for name, each in schema.get("properties", {}).items()]
    if others := schema.get("additionalProperties"):
        members.append(f"…: {_shape(others if isinstance(others, Mapping) else {}, schemas, deeper)}")
    if not members:
        return "{}"
    lines = ",\n".join(deeper + member for member in members)
    return f"{{\n{lines}\n{indent}}}"
