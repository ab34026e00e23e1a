"""A form for the arguments of a task, made from their JSON Schema: plain types have fields of their own, the rest is JSON."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic_core import from_json

from ..errors import FieldError

Kind = Literal["text", "number", "choice", "json"]
PREFIX = "arg."  # of the names of fields: an argument may have any name

_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: no form can send it
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One argument. `value` is its text in the form; "" leaves an optional argument to its default.

    `choices` are JSON texts with their labels. `wrong`: what is wrong with the value that was sent.
    """

    name: str
    kind: Kind
    value: str
    required: bool
    hint: str
    choices: tuple[tuple[str, str], ...] = ()
    wrong: str | None = None

    @property
    def id(self) -> str:
        return PREFIX + self.name


def fields_of(schema: Mapping[str, Any], values: Mapping[str, Any]) -> list[Field]:
    """Return a field for each property of an object's schema. `values`: arguments to begin with."""
    required = schema.get("required", ())
    return [
        _field(name, _resolved(part, schema), values, required=name in required)
        for name, part in schema.get("properties", {}).items()
    ]


def as_sent(fields: Iterable[Field], sent: Mapping[str, str]) -> list[Field]:
    """Return the fields with the values of a posted form."""
    return [replace(field, value=sent.get(field.id, "").replace("\r\n", "\n")) for field in fields]


def arguments_of(fields: Iterable[Field]) -> tuple[dict[str, Any], list[FieldError]]:
    """Return the arguments that the fields stand for, and an error for each text that is not the JSON that it should be."""
    found: dict[str, Any] = {}
    errors = []
    for field in fields:
        if field.value == "" and not (field.required and field.kind == "text"):
            continue
        try:
            found[field.name] = field.value if field.kind == "text" else from_json(field.value, allow_inf_nan=False)
        except ValueError as error:
            if field.kind == "number":
                found[field.name] = field.value  # the task's schema says what is wrong with it
            else:
                errors.append(FieldError(f"#/args/{_escaped(field.name)}", f"This is not JSON: {error}"))
    return found, errors


def with_errors(fields: Iterable[Field], errors: Iterable[FieldError]) -> tuple[list[Field], list[str]]:
    """Return the fields with the errors whose pointers name them, and the other errors as texts."""
    by_name = {field.name: field for field in fields}
    others = []
    for error in errors:
        _, _, path = error.pointer.partition("#/args/")
        first, _, rest = path.partition("/")
        name = first.replace("~1", "/").replace("~0", "~")
        if name in by_name:
            said = f"{rest}: {error.detail}" if rest else error.detail
            by_name[name] = replace(by_name[name], wrong=by_name[name].wrong or said)
        else:
            others.append(f"{error.pointer}: {error.detail}")
    return list(by_name.values()), others


def _field(name: str, schema: Mapping[str, Any], values: Mapping[str, Any], *, required: bool) -> Field:
    kind, choices = _kind(schema)
    hint = "; ".join(_hints(schema, kind))
    if name not in values or (values[name] is None and not required):
        return Field(name, kind, "", required, hint, choices)
    value = values[name]
    if kind == "text" and not _is_sent_as_it_is(value, required=required):
        return Field(name, "json", _text(value), required, "; ".join(_hints(schema, "json")), choices)
    return Field(name, kind, _HALF.sub("\ufffd", value) if kind == "text" else _text(value), required, hint, choices)


def _is_sent_as_it_is(value: object, *, required: bool) -> bool:
    """Return whether a form sends `value` back unchanged: not an empty field, which is none, nor CR and NUL."""
    return isinstance(value, str) and (required or value != "") and not {"\r", "\0"} & set(value)


def _kind(schema: Mapping[str, Any]) -> tuple[Kind, tuple[tuple[str, str], ...]]:
    if isinstance(values := schema.get("enum"), list):
        return "choice", tuple((_text(value), str(value)) for value in values)
    match schema.get("type"):
        case "boolean":
            return "choice", (("true", "true"), ("false", "false"))
        case "string":
            return "text", ()
        case "integer" | "number":
            return "number", ()
    return "json", ()


def _hints(schema: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    if described := schema.get("description"):
        yield str(described)
    if kind == "json":
        yield f"JSON ({schema['type']})" if isinstance(schema.get("type"), str) else "JSON"
    elif schema.get("type") == "integer":
        yield "a whole number"
    if "format" in schema:
        yield str(schema["format"])
    for name, words in _BOUNDS.items():
        if name in schema:
            yield words.format(schema[name])
    if "default" in schema:
        yield f"default {_text(schema['default'])[:100]}"


def _resolved(part: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a `$ref` names, with what stands beside it; a type or null, by default null, is the type."""
    while "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        part = {**whole.get("$defs", {}).get(name, {}), **_without(part, "$ref")}
    types = [each for each in part.get("anyOf", ()) if each.get("type") != "null"]
    if len(types) == 1 and part.get("default", "") is None:
        return {**_resolved(types[0], whole), **_without(part, "anyOf", "default")}
    return part


def _without(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}


def _text(value: Any) -> str:
    return json.dumps(value, indent=2 if isinstance(value, (dict, list)) and value else None, ensure_ascii=True)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
