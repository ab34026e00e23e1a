"""The inputs of operations and tasks as fields of a form, from their JSON Schemas."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

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
    def value(self) -> Any:
        """The example as a member of a JSON body; static/request.js reads what is typed in the same way."""
        if self.many:
            return [each for each in re.split(r"[\s,]+", self.example) if each]
        return from_json(self.example) if self.kind != "string" and self.example else self.example

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")


def parameters(operation: Mapping[str, Any], schemas: Schema) -> Iterator[Field]:
    for given in operation.get("parameters", ()):
        schema = {"description": given.get("description", ""), **given["schema"]}
        yield _field(given["name"], given["in"], given["required"], schema, schemas)


def body_fields(body: Schema, schemas: Schema, where: str = "body") -> Iterator[Field]:
    for name, required, schema in members(body, schemas):
        yield _field(name, where, required, schema, schemas)


def members(body: Schema, schemas: Schema) -> Iterator[tuple[str, bool, Schema]]:
    """Yield name, necessity and schema of each member of a body. Of a choice of bodies: what they have in common."""
    bodies = [resolved(each, schemas) for each in body.get("anyOf", ())] or [body]
    for name in bodies[0].get("properties", {}):
        first, *others = (resolved(each["properties"][name], schemas) for each in bodies)
        common = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
        yield name, all(name in each.get("required", ()) for each in bodies), common


def _field(name: str, where: str, required: bool, schema: Schema, schemas: Schema) -> Field:
    schema = resolved(schema, schemas)
    given = schema.get("default")
    default = "" if given in (None, "", [], {}) else str(given).lower() if isinstance(given, bool) else str(given)
    form = schema.get("format") or schema.get("type", "")
    kind, many = _kind(schema, schemas)
    choices = ("true", "false") if kind == "boolean" else tuple(str(choice) for choice in schema.get("enum", ()))
    example = default or (_EXAMPLES.get(name, "") if where in ("path", "body") else "")
    if required and not example and not many:
        example = choices[0] if choices else "{}" if schema.get("type") == "object" else ""
    return Field(
        name,
        where,
        required,
        type_text(schema, schemas),
        _bounds(schema),
        default,
        schema.get("description", ""),
        example,
        kind,
        many,
        _INPUTS.get(form, "text"),
        choices,
        schema.get("minimum"),
        schema.get("maximum"),
    )


def _kind(schema: Schema, schemas: Schema) -> tuple[str, bool]:
    """Return how a form reads a value of this schema, and whether it is a list of such values."""
    if schema.get("type") == "array":
        kind, many = _kind(resolved(schema.get("items", {}), schemas), schemas)
        return ("json", False) if kind == "json" or many else (kind, True)
    kind = schema.get("type", "string" if "enum" in schema else "")
    return (kind, False) if kind in ("string", "integer", "number", "boolean") else ("json", False)


def resolved(schema: Schema, schemas: Schema) -> Schema:
    """Return the schema that a reference names, or the other schema of "it or null"."""
    if "$ref" in schema:
        return resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(others) == 1:
        return {**resolved(others[0], schemas), **{name: value for name, value in schema.items() if name != "anyOf"}}
    return schema


def type_text(schema: Schema, schemas: Schema) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {type_text(resolved(schema.get('items', {}), schemas), schemas)}"
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
