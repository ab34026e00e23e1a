"""The OpenAPI 3.1 document, made from the routes' own contracts (operations.py)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import to_json
from quart import Quart

from .. import __version__
from ..errors import InvalidInput
from ..problem_types import BY_ERROR, BY_STATUS, ProblemType
from .operations import ATTRIBUTE, Answer, Operation
from .problems import CONTENT_TYPE

_DOCUMENTED = ("GET", "POST", "PATCH", "PUT", "DELETE")
_REF = "#/components/schemas/{model}"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details. `error` is the title once more, for clients of the tutorials.",
    "required": ["type", "title", "status", "detail", "instance", "request_id", "error"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "the address of this type's documentation",
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what happened this time"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": ["string", "null"]},
        "error": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "one entry a field, for invalid input",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def operations(app: Quart) -> Iterator[tuple[str, str, Operation]]:
    """Path, method and contract of every route that has one, by path."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        view_class = getattr(view, "view_class", None)
        for method in _DOCUMENTED:
            if method in (rule.methods or ()):
                handler = getattr(view_class, method.lower()) if view_class else view
                if contract := getattr(handler, ATTRIBUTE, None):
                    yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method, contract


def document(app: Quart) -> bytes:
    """The whole document, as JSON. Takes tens of milliseconds: build it once."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for path, method, contract in operations(app):
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, contract, schemas)
    return to_json(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "quart-async-api",
                "version": __version__,
                "summary": "Slow calls, delivered as their caller wishes.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {"schemas": {"Problem": _PROBLEM, **schemas.components}},
        },
        indent=2,
    )


class _Schemas:
    """Collects what the operations name into one set of components."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, shape: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
        schema = adapter.json_schema(mode=mode, ref_template=_REF)
        self.components |= schema.pop("$defs", {})
        return self._named(schema)

    def _named(self, schema: dict[str, Any]) -> dict[str, Any]:
        # A shape with a name of its own is a component, so that generated clients get a type by that name.
        if schema.get("type") != "object" or "title" not in schema:
            return schema
        self.components[schema["title"]] = schema
        return {"$ref": _REF.format(model=schema["title"])}


def _operation(path: str, method: str, contract: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()} {path.strip('/') or 'console'}").strip("_"),
        "tags": [contract.tag],
        "summary": contract.summary,
        "description": contract.description,
    }
    if contract.deprecated:
        described["deprecated"] = True
    if parameters := [*_path_parameters(path), *_query_parameters(contract, schemas), *_header_parameters(contract)]:
        described["parameters"] = parameters
    if contract.body is not None:
        schema = schemas.of(contract.body, "validation")
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    described["responses"] = {
        **{str(status): _answers(answers, schemas) for status, answers in contract.answers.items()},
        **_problems(contract),
    }
    return described


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(contract: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    if contract.query is None:
        return []
    schema = contract.query.model_json_schema(ref_template=_REF)
    schemas.components |= schema.get("$defs", {})
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        | ({"description": field["description"]} if "description" in field else {})
        for name, field in schema.get("properties", {}).items()
    ]


def _header_parameters(contract: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in contract.headers.items()
    ]


def _answers(answers: tuple[Answer, ...], schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "; or ".join(answer.description for answer in answers)}
    headers = {name: text for answer in answers for name, text in answer.headers.items()}
    if headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
        }
    content = {
        answer.media_type: {"schema": schemas.of(answer.shape, "serialization")}
        for answer in answers
        if answer.shape is not None
    }
    return described | ({"content": content} if content else {})


def _problems(contract: Operation) -> Mapping[str, Any]:
    by_status: dict[int, list[ProblemType]] = {}
    kinds = [BY_ERROR[error] for error in dict.fromkeys(contract.errors)]
    if contract.body is not None:
        kinds += [BY_STATUS[status] for status in (400, 413, 415)]
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    described = {
        str(status): _problem_response(" or ".join(kind.title for kind in same), same)
        for status, same in sorted(by_status.items())
    }
    return described | {"default": _problem_response("Any other problem", [BY_STATUS[500]])}


def _problem_response(description: str, kinds: list[ProblemType]) -> dict[str, Any]:
    examples = {kind.slug: {"value": _example(kind)} for kind in kinds}
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    return {"description": description, "content": content}


def _example(kind: ProblemType) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.explanation.partition(". ")[0].rstrip(".") + ".",
        "instance": "/…",
        "request_id": "4b0f…",
        "error": kind.title,
    }
    if kind is BY_ERROR[InvalidInput]:
        example["errors"] = [{"pointer": "#/name", "detail": "Field required"}]
    return example
