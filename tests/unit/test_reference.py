"""The OpenAPI document as the pages show it."""

import shlex
from typing import Any

from pydantic_core import to_json

from quart_async_api.web.reference import Documented, Reference, reference


def read(operation: dict[str, Any], *paths: str, schemas: dict[str, Any] | None = None) -> Reference:
    given = {"operationId": "it", "tags": ["T"], "summary": "Do", "description": "", "responses": {}, **operation}
    described = {path: {"post": given} for path in paths}
    api = {"paths": described, "x-websockets": {}, "components": {"schemas": schemas or {}}}
    return reference(to_json(api))


def documented(operation: dict[str, Any], path: str = "/things", schemas: dict[str, Any] | None = None) -> Documented:
    (found,) = read(operation, path, schemas=schemas).operations
    return found


def answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": "It", "content": {"application/json": {"schema": schema}}}}}


def of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_a_named_shape_is_shown_once_however_many_refer_to_it() -> None:
    schemas = {
        "Page": {"type": "object", "properties": {"rows": {"type": "array", "items": of("Row")}}},
        "Row": {"type": "object", "properties": {"id": {"type": "integer"}, "state": of("State"), "within": of("Row")}},
        "State": {"enum": ["open", "closed"]},
    }
    found = read(answer(of("Page")), "/a", "/b", schemas=schemas)
    assert [each.responses[0].shapes for each in found.operations] == [{"application/json": "Page"}] * 2
    shapes = {
        "Page": '{\n  "rows": [Row, …]\n}',
        "Row": '{\n  "id": integer,\n  "state": open or closed,\n  "within": Row\n}',
    }
    assert found.shapes == shapes
    assert found.shapes_of(found.operations[0]) == shapes
    assert found.shapes_of(documented(answer({"type": "integer"}))) == {}


def test_a_field_that_may_be_null_is_what_it_is_otherwise() -> None:
    schema = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}], "default": None}
    parameter = {"name": "n", "in": "query", "required": False, "schema": schema}
    (field,) = documented({"parameters": [parameter]}).fields
    assert (field.type, field.bounds, field.input, field.default) == ("integer", "1 to 9", "number", "")


def test_the_command_quotes_whatever_a_shell_would_read() -> None:
    query = {"name": "q", "in": "query", "required": True, "schema": {"type": "string", "default": "a b&c"}}
    place = {"name": "where", "in": "path", "required": True, "schema": {"type": "string", "default": "x/'y"}}
    command = documented({"parameters": [query, place]}, "/things/{where}").curl("http://host/")
    assert shlex.split(command) == ["curl", "-X", "POST", "http://host/things/x%2F%27y?q=a%20b%26c"]


def test_a_schema_without_a_type_is_any_json() -> None:
    assert documented(answer({})).responses[0].shapes["application/json"] == "any JSON"
