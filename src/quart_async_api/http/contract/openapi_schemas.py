"""The schemas of the OpenAPI document, and examples made of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import to_json

Shape = tuple[Any, JsonSchemaMode]

_REF = "#/components/schemas/{model}"
_OURS = "quart_async_api__"  # where pydantic puts the module before a name that two models have
_VALUES = ("const", "default", "enum", "examples")  # members of a schema that are no schemas
_BY_TYPE = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "null": None}


class Schemas:
    """The schemas of all shapes of a document, as components by name.

    Two models of one name have two components: the service's keeps the name, and those of an app get that of their module too.
    """

    def __init__(self, shapes: Iterable[Shape], inline: Iterable[type[BaseModel]]) -> None:
        """Make the schemas of `shapes`, and of `inline` models, which are no components of their own."""
        wanted = dict.fromkeys(shapes)
        members: dict[Shape, None] = {(model, "validation"): None for model in inline}
        made, rest = TypeAdapter.json_schemas(
            [(shape, mode, _adapter(shape)) for shape, mode in wanted | members], ref_template=_REF
        )
        components = rest.get("$defs", {})
        names = {name: _short(name) for name in components if name.startswith(_OURS)}
        self.components: dict[str, Any] = {
            names.get(name, name): _cleaned(schema, names) for name, schema in components.items()
        }
        self._known: dict[Shape, dict[str, Any]] = {shape: _cleaned(schema, names) for shape, schema in made.items()}
        self._inline = {
            model: self.components.pop(name) if (model, "validation") not in wanted else self.components[name]
            for model, _ in members
            for name in [self._known[model, "validation"]["$ref"].rpartition("/")[2]]
        }

    def of(self, shape: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        """Return the schema of a shape: of a model, a reference to its component."""
        return self._known[shape, mode]

    def named(self, schema: dict[str, Any]) -> str:
        """Return the name of the component that the schema refers to."""
        return str(schema["$ref"].rpartition("/")[2])

    def whole(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the schema of an inline model."""
        schema: dict[str, Any] = self._inline[model]
        return schema

    def example(self, shape: Any, mode: JsonSchemaMode) -> list[Any]:
        """Return one value of the shape; none if it would lack a pattern or a bound of the shape."""
        value = example(self.of(shape, mode), self.components)
        try:
            _adapter(shape).validate_json(to_json(value))
        except ValidationError:
            return []
        return [value]


def _adapter(shape: Any) -> TypeAdapter[Any]:
    return shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)


def _short(name: str) -> str:
    short = name.rpartition("__")[2]
    return short if short.isidentifier() else name  # a number: two of one module


def _cleaned(schema: Any, names: Mapping[str, str]) -> Any:
    """Return the schema with other names of components, and without `default: null`.

    An absent member has no value, and generated clients would send null.
    """
    if isinstance(schema, list):
        return [_cleaned(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {
        name: each if name in _VALUES else _cleaned(each, names)
        for name, each in schema.items()
        if (name, each) != ("default", None)
    }
    if isinstance(reference := cleaned.get("$ref"), str):
        path, _, name = reference.rpartition("/")
        cleaned["$ref"] = f"{path}/{names.get(name, name)}"
    return cleaned


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
