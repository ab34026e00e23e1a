"""Reads the JSON body and the query of a request, checked against a model. Errors are listed field by field."""

from collections.abc import Mapping
from functools import cache
from typing import TypeVar, cast, get_origin

from pydantic import BaseModel
from pydantic_core import from_json
from quart import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from ...errors import FieldError, InvalidInput
from ...validation import checked
from .nesting import check_nesting, too_deep

Model = TypeVar("Model", bound=BaseModel)


async def read_body(model: type[Model]) -> Model:
    """Return the JSON body as `model`. Raises UnsupportedMediaType, BadRequest (not JSON) or InvalidInput (other shape).

    Raises NestingTooDeep as well.
    """
    return checked(model, await read_json())


async def read_json() -> object:
    """Return the JSON body. Raises UnsupportedMediaType, BadRequest, NestingTooDeep."""
    media_type = request.mimetype
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("Send the body as JSON, with the header Content-Type: application/json.")
    body = cast("bytes", await request.get_data())
    try:
        sent = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        if "recursion limit" in str(error):  # the parser's limit, higher than LEVELS
            raise too_deep() from None
        raise BadRequest(f"The body is not JSON: {error}.") from None
    check_nesting(body)
    return cast("object", sent)


def has_no_nul(text: str) -> str:
    if "\0" in text:  # PostgreSQL cannot store it
        raise ValueError("Must not contain NUL")
    return text


@cache
def _parameters(model: type[BaseModel]) -> list[tuple[str, bool]]:
    """Return the name of each parameter, and whether it may be repeated."""
    return [
        (
            field.validation_alias if isinstance(field.validation_alias, str) else name,
            get_origin(field.annotation) in (list, tuple),
        )
        for name, field in model.model_fields.items()
    ]


def read_query(model: type[Model], given: Mapping[str, object] = {}) -> Model:
    """Return the query, and what is `given`, as `model`. Unknown parameters are ignored. Raises InvalidInput."""
    sent = dict(given)
    repeated: list[FieldError] = []
    for name, takes_many in _parameters(model) if request.query_string else ():
        if name in given:
            continue
        values = request.args.getlist(name)
        if len(values) > 1 and not takes_many:
            repeated.append(FieldError(f"#/{name}", "Give it once"))
        elif values:
            sent[name] = values if takes_many else values[0]
    if repeated:
        raise InvalidInput(*repeated)
    return checked(model, sent)
