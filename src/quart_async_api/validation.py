"""Checking what was sent against a model: every fault by field, as InvalidInput."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from .errors import FieldError, InvalidInput

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], sent: object, root: str = "#") -> Model:
    """`sent` as an instance of `model`. Raises InvalidInput with a JSON Pointer (RFC 6901), below `root`, for each fault."""
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        raise InvalidInput(
            *(
                FieldError(root + _pointer(fault["loc"]), fault["msg"].removeprefix("Value error, "))
                for fault in error.errors(include_url=False, include_context=False, include_input=False)
            )
        ) from None


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)
