"""The OpenAPI document as the pages show it: each named shape once, fields for a form, and a `curl` per operation."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic_core import from_json, to_json

from ..problem_types import CONTENT_TYPE

T = TypeVar("T")
Schema = Mapping[str, Any]

# Initial values of forms and examples, if the document has no default.
_JOB = "019aa3c4-5e60-7d21-9f3b-6b2f0c1d8e47"
_EXAMPLES = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "user_id": "1",
    "slug": "invalid-input",
    "job_id": _JOB,
    "task": "test",
}
_INPUTS = {"integer": "number", "number": "number", "email": "email", "password": "password"}
_COMMON = 3  # operations
# The name of a shape in the text of another shape: members begin with a quote, types with a small letter.
NAME = re.compile(r"(?<![\"\w])[A-Z][a-z]\w+")


@dataclass(frozen=True, slots=True)
class Field:
    """One input of an operation. `where` is path, query, header, body or args (of a task); `example` is the initial value of a
    form. `kind` is how a form reads what is typed: string, integer, number, boolean or json; of each one, if there are many.
    """

    name: str
    where: str
    required: bool
    type: str
    bounds: str
    default: str
    description: str
    example: str
    kind: str
    many: bool
    input: str
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")


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
            field.name: field.example
            for field in self.fields
            if field.where == "body" and field.example and (field.required or field.example != field.default)
        }
        if self.task:
            args: dict[str, Any] = {
                field.name: field.example or ([] if field.many else "") for field in needed if field.where == "args"
            }
            body = {"task": self.task} | ({"args": args} if args else {})
        if self.has_body:
            words += ["-H", "Content-Type: application/json", "-d", to_json(body).decode()]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Reference:
    """An OpenAPI document as a page, which describes shared parts once.

    `shapes` has the named shapes; `fields` and `responses` have those that at least _COMMON operations share.
    """

    operations: tuple[Documented, ...]
    shapes: Mapping[str, str]
    fields: tuple[Field, ...]
    responses: tuple[Response, ...]


@lru_cache(maxsize=8)
def reference(document: bytes) -> Reference:
    """Read an OpenAPI document. Its operations are sorted by path."""
    api = from_json(document)
    schemas = api["components"]["schemas"]
    operations = tuple(
        _documented(path, method, operation, schemas)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    )
    named = _named_in(shape for operation in operations for shape in _shapes_of(operation)) & schemas.keys()
    shapes: dict[str, str] = {}
    while missing := sorted(named - shapes.keys()):
        shapes |= {name: _shape(schemas[name], schemas) for name in missing}
        named |= _named_in(shapes[name] for name in missing) & schemas.keys()
    return Reference(
        operations,
        dict(sorted(shapes.items())),
        _common(field for operation in operations for field in operation.fields),
        _common(response for operation in operations for response in operation.responses),
    )


def run_of(task: str, summary: str, arguments: Schema, jobs: Documented) -> Documented:
    """Return the call that runs a task: `jobs`, which is POST /jobs, with a field for each of the task's arguments."""
    own = tuple(_body_fields(arguments, arguments.get("$defs", {}), "args"))
    others = tuple(field for field in jobs.fields if field.name not in ("task", "args"))
    return replace(jobs, id=f"task-{task}", task=task, summary=summary.rstrip("."), description="", fields=own + others)


def _common(parts: Iterable[T]) -> tuple[T, ...]:
    every = list(parts)
    return tuple(
        part for number, part in enumerate(every) if part not in every[:number] and every.count(part) >= _COMMON
    )


def _shapes_of(operation: Documented) -> Iterator[str]:
    for response in operation.responses:
        yield from response.shapes.values()
    yield from operation.messages.values()


def _named_in(shapes: Iterable[str]) -> set[str]:
    return {found for shape in shapes for found in NAME.findall(shape)}


def _documented(path: str, method: str, operation: Mapping[str, Any], schemas: Schema) -> Documented:
    content = operation.get("requestBody", {}).get("content", {})
    body = next((_resolved(media["schema"], schemas) for media in content.values()), None)
    return Documented(
        operation["operationId"],
        method.upper(),
        path,
        operation["tags"][0],
        operation["summary"],
        operation["description"],
        operation.get("deprecated", False),
        (*_parameters(operation, schemas), *(_body_fields(body, schemas) if body else ())),
        body is not None,
        "",
        tuple(
            _response(status, answer, schemas)
            for status, answer in operation["responses"].items()
            if "$ref" not in answer
        ),
        {
            name: _shape(schema, schemas)
            for name, schema in operation.get("x-websocket", {}).items()
            if name in ("sent", "received")
        },
    )


def _parameters(operation: Mapping[str, Any], schemas: Schema) -> Iterator[Field]:
    for given in operation.get("parameters", ()):
        schema = {"description": given.get("description", ""), **given["schema"]}
        yield _field(given["name"], given["in"], given["required"], schema, schemas)


def _body_fields(body: Schema, schemas: Schema, where: str = "body") -> Iterator[Field]:
    for name, schema in body.get("properties", {}).items():
        yield _field(name, where, name in body.get("required", ()), schema, schemas)


def _field(name: str, where: str, required: bool, schema: Schema, schemas: Schema) -> Field:
    schema = _resolved(schema, schemas)
    given = schema.get("default")
    default = "" if given in (None, "", [], {}) else str(given).lower() if isinstance(given, bool) else str(given)
    form = schema.get("format") or schema.get("type", "")
    kind, many = _kind(schema, schemas)
    return Field(
        name,
        where,
        required,
        _type(schema, schemas),
        _bounds(schema),
        default,
        schema.get("description", ""),
        default or (_EXAMPLES.get(name, "") if where in ("path", "body") else ""),
        kind,
        many,
        _INPUTS.get(form, "text"),
        ("true", "false") if kind == "boolean" else tuple(str(choice) for choice in schema.get("enum", ())),
        schema.get("minimum"),
        schema.get("maximum"),
    )


def _kind(schema: Schema, schemas: Schema) -> tuple[str, bool]:
    """Return how a form reads a value of this schema, and whether it is a list of such values."""
    if schema.get("type") == "array":
        kind, many = _kind(_resolved(schema.get("items", {}), schemas), schemas)
        return ("json", False) if kind == "json" or many else (kind, True)
    kind = schema.get("type", "string" if "enum" in schema else "")
    return (kind, False) if kind in ("string", "integer", "number", "boolean") else ("json", False)


def _response(status: str, answer: Mapping[str, Any], schemas: Schema) -> Response:
    content = answer.get("content", {})
    return Response(
        status,
        answer["description"],
        {name: header["description"] for name, header in answer.get("headers", {}).items() if "description" in header},
        {name: _shape(media["schema"], schemas) for name, media in content.items() if name != CONTENT_TYPE},
        tuple(content.get(CONTENT_TYPE, {}).get("examples", ())),
    )


def _resolved(schema: Schema, schemas: Schema) -> Schema:
    """Return the schema that a reference names, or the other schema of "it or null"."""
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(others) == 1:
        return {**_resolved(others[0], schemas), **{name: value for name, value in schema.items() if name != "anyOf"}}
    return schema


def _type(schema: Schema, schemas: Schema) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(_resolved(schema.get('items', {}), schemas), schemas)}"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    kind = str(schema.get("type", "any JSON"))
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _bounds(schema: Schema) -> str:
    spans = (
        _span(schema.get("minimum"), schema.get("maximum"), ""),
        _span(schema.get("minLength"), schema.get("maxLength"), " characters"),
        _span(schema.get("minItems"), schema.get("maxItems"), " of them"),
    )
    return ", ".join(filter(None, spans))


def _span(low: float | None, high: float | None, unit: str) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}{unit}"
    if high is not None:
        return f"at most {high}{unit}"
    return "" if low is None else f"at least {low}{unit}"


def _shape(schema: Schema, schemas: Schema, indent: str = "") -> str:
    """Return the schema as JSON with types for values. A reference to an object becomes its name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if "properties" in schemas[name] else _shape(schemas[name], schemas, indent)
    if "anyOf" in schema:
        return " or ".join(_shape(each, schemas, indent) for each in schema["anyOf"])
    deeper = indent + "  "
    if schema.get("type") == "array":
        return f"[{_shape(schema.get('items', {}), schemas, indent)}, …]"
    if schema.get("type") != "object":
        return _type(schema, schemas)
    members = [f'"{name}": {_shape(each, schemas, deeper)}' for name, each in schema.get("properties", {}).items()]
    if others := schema.get("additionalProperties"):
        members.append(f"…: {_shape(others if isinstance(others, Mapping) else {}, schemas, deeper)}")
    if not members:
        return "{}"
    lines = ",\n".join(deeper + member for member in members)
    return f"{{\n{lines}\n{indent}}}"
