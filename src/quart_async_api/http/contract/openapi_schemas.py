"""The schemas of the OpenAPI document, and examples made of them."""

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import to_json

_REF = "#/components/schemas/{model}"
_VALUES = ("const", "default", "enum", "examples")  # members of a schema that are no schemas
_BY_TYPE = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "null": None}


class Schemas:
    """Collects the schemas of the operations into one set of components."""

    def __init__(self, components: dict[str, Any]) -> None:
        self.components = components
        self._known: dict[tuple[Any, JsonSchemaMode], dict[str, Any]] = {}

    def of(self, shape: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        if (shape, mode) not in self._known:
            self._known[shape, mode] = self._made(shape, mode)
        return self._known[shape, mode]

    def _made(self, shape: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
        schema: dict[str, Any] = _without_null_defaults(adapter.json_schema(mode=mode, ref_template=_REF))
        self.components |= schema.pop("$defs", {})
        return self._named(schema)

    def example(self, shape: Any, mode: JsonSchemaMode) -> list[Any]:
        """Return one value of the shape; none if it would lack a pattern or a bound of the shape."""
        value = example(self.of(shape, mode), self.components)
        adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
        try:
            adapter.validate_json(to_json(value))
        except ValidationError:
            return []
        return [value]

    def whole(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the model's schema. Models that it refers to become components."""
        schema: dict[str, Any] = _without_null_defaults(model.model_json_schema(ref_template=_REF))
        self.components |= schema.pop("$defs", {})
        return schema

    def _named(self, schema: dict[str, Any]) -> dict[str, Any]:
        # A shape with a name is a component, so that generated clients have a type with that name.
        if schema.get("type") != "object" or "title" not in schema:
            return schema
        self.components[schema["title"]] = schema
        return {"$ref": _REF.format(model=schema["title"])}


def _without_null_defaults(schema: Any) -> Any:
    """Return the schema without `default: null`: an absent member has no value, and generated clients would send null."""
    if isinstance(schema, list):
        return [_without_null_defaults(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: each if name in _VALUES else _without_null_defaults(each)
        for name, each in schema.items()
        if (name, each) != ("default", None)
    }


def example(schema: dict[str, Any], components: dict[str, Any]) -> Any:
    """Return a value of this shape: its first example, or null if allowed; without optional members."""
    if "$ref" in schema and "examples" not in schema:
        return example(components[schema["$ref"].rpartition("/")[2]], components)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return None if {"type": "null"} in choices else example(choices[0], components)
    if schema.get("type") == "object":
        required = schema.get("required", ())
        return {
            name: example(member, components)
            for name, member in schema.get("properties", {}).items()
            if name in required
        }
    if schema.get("type") == "array":
        return [example(schema.get("items", {}), components)]
    return _BY_TYPE.get(schema.get("type", "null"))
