"""Forms of the console: what was posted, checked, and what to show beside each field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel
from quart import request

from ..errors import FieldError, InvalidInput
from ..validation import checked

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Form:
    """The values of a form as text, and what is wrong with some of them, by field; "" is the form as a whole."""

    values: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)

    @property
    def first_wrong(self) -> str | None:
        """The field to begin with; None if the form as a whole is wrong, or nothing."""
        return None if "" in self.wrong else next((name for name in self.values if name in self.wrong), None)

    def refused(self, error: InvalidInput) -> "Form":
        """Return the form with an error for each of its fields; errors elsewhere are of the whole."""
        return self.with_errors(*error.errors)

    def with_errors(self, *errors: FieldError) -> "Form":
        wrong: dict[str, str] = {}
        for error in errors:
            name = error.pointer.removeprefix("#/")
            known = name if name in self.values else ""
            wrong.setdefault(known, error.detail if known else f"{name}: {error.detail}".removeprefix("#: "))
        return Form(self.values, wrong)


async def posted(*names: str) -> Form:
    """Return these fields of the posted form; a missing one is empty."""
    sent = await request.form
    return Form({name: sent.get(name, "") for name in names})


def as_model(model: type[Model], form: Form) -> Model:
    """Return the form as `model`. Raises InvalidInput."""
    return checked(model, dict(form.values))
