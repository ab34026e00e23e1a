"""What several commands read from the shell: durations, and text that a database can hold."""

from typing import Any

import click

from ..moments import duration


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m, h or d."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}")


def readable(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return the value. Raises BadParameter for bytes that are not UTF-8: a database cannot store them."""
    for text in (value,) if isinstance(value, str) else value or ():
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise click.BadParameter("is not UTF-8", ctx, param)
    return value
