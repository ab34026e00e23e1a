"""Checks input against a model, and reports what is wrong by field, as InvalidInput. What a fault costs is bounded."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from .errors import MOST_ERRORS, FieldError, InvalidInput

Model = TypeVar("Model", bound=BaseModel)

_LONGEST_POINTER = 200  # characters; a member's name is the caller's, and can be as long as the body
_LONGEST_DETAIL = 500
_SEQUENCES = frozenset({"list", "set", "frozenset", "tuple"})
_RECORDS = frozenset({"model", "dataclass", "typed-dict", "arguments", "arguments-v3", "dict"})
_NO_SCHEMAS = frozenset({"metadata", "serialization", "default", "expected", "config"})  # values that may look like one
_NAMED_SCHEMAS = frozenset(
    {"fields", "choices"}
)  # where they are a dict: each schema under a name that the author chose


def checked(model: type[Model], sent: object, root: str = "#", *, stored: bool = False) -> Model:
    """`sent` as an instance of `model`. Raises InvalidInput with a JSON Pointer (RFC 6901), below `root`, for each fault.

    Callers send fields by their aliases. What is `stored` has them by their names, as `model_dump_json` writes them.
    """
    try:
        return cast("Model", validator(model).validate_python(sent, by_alias=True, by_name=stored or None))
    except ValidationError as error:
        raise InvalidInput(
            *(
                FieldError(_cut(root + _pointer(fault["loc"]), _LONGEST_POINTER), _cut(_detail(fault), _LONGEST_DETAIL))
                for fault in error.errors(include_url=False, include_context=False, include_input=False)[:MOST_ERRORS]
            )
        ) from None


@cache
def validator(model: type[BaseModel]) -> SchemaValidator:
    """The validator of `model`, whatever types it is made of, with a bound on the errors that it collects.

    pydantic collects every error, with a copy of the path to each: one megabyte could cost seconds and gigabytes. This
    one stops at the first wrong item of a sequence, and reports a record or mapping with over 100 errors as one. It
    takes no number that JSON cannot hold.
    """
    return SchemaValidator(_bounded(model.__pydantic_core_schema__), _use_prebuilt=False)


def _bounded(schema: Any) -> Any:
    """A copy of a core schema with the bounds in it, at every depth."""
    if isinstance(schema, list):
        return [_bounded(part) for part in schema]
    if isinstance(schema, tuple):  # a choice of a union with its label
        return tuple(_bounded(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    copy = {name: _part(name, part) for name, part in schema.items()}
    kind = schema.get("type")
    if kind in _SEQUENCES:
        copy["fail_fast"] = True
    elif kind == "float":
        copy["allow_inf_nan"] = False
    elif kind == "union":
        copy["choices"] = [_labelled(old, new) for old, new in zip(schema["choices"], copy["choices"], strict=True)]
    elif kind in _RECORDS:
        reference = copy.pop("ref", None)
        return core_schema.no_info_wrap_validator_function(_few, cast("CoreSchema", copy), ref=reference)
    return copy


def _part(name: str, part: Any) -> Any:
    if name in _NO_SCHEMAS:
        return part
    if name in _NAMED_SCHEMAS and isinstance(part, dict):
        return {each: _bounded(schema) for each, schema in part.items()}
    return _bounded(part)


def _labelled(choice: Any, bounded: Any) -> Any:
    """The choice under a name of its own, since pydantic would name it after the function around it."""
    if isinstance(choice, tuple):
        return bounded
    kind: str = choice["type"]
    if kind == "definition-ref":  # `module.Class:number`
        return bounded, choice["schema_ref"].rpartition(":")[0].rpartition(".")[2]
    if kind in _RECORDS | _SEQUENCES:
        return bounded, getattr(choice.get("cls"), "__name__", kind)
    return bounded


def _few(sent: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(sent)
    except ValidationError as error:
        if (count := error.error_count()) <= MOST_ERRORS:
            raise
        raise PydanticCustomError("too_many_errors", "Has {count} errors", {"count": count}) from None


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def _detail(fault: Any) -> str:
    return cast("str", fault["msg"]).removeprefix("Value error, ")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
