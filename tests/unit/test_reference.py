"""The OpenAPI document as the pages show it."""

import shlex
from typing import Any

from pydantic_core import to_json

from quart_async_api.http.reference import Documented, operations


def documented(operation: dict[str, Any], path: str = "/things", schemas: dict[str, Any] | None = None) -> Documented:
    given = {"operationId": "it", "tags": ["T"], "summary": "Do", "description": "", "responses": {}, **operation}
    api = {"paths": {path: {"post": given}}, "components": {"schemas": schemas or {}}}
    (found,) = operations(to_json(api))
    return found


def answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"responses": {"200": {"description": "It", "content": {"application/json": {"schema": schema}}}}}


def test_a_shape_shows_what_its_references_stand_for() -> None:
    schemas = {"Row": {"type": "object", "properties": {"id": {"type": "integer"}}}}
    shown = documented(answer({"type": "array", "items": {"$ref": "#/components/schemas/Row"}}), schemas=schemas)
    assert shown.responses[0].shapes == {"application/json": '[{\n  "id": integer\n}, …]'}


def test_a_shape_inside_itself_is_told_by_its_name() -> None:
    tree = {"$ref": "#/components/schemas/Tree"}
    schemas = {"Tree": {"type": "object", "properties": {"children": {"type": "array", "items": tree}}}}
    shown = documented(answer(tree), schemas=schemas)
    assert shown.responses[0].shapes["application/json"] == '{\n  "children": [Tree, …]\n}'


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
