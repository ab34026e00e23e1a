"""What several commands read from the shell: addresses, durations, and text that a database can hold."""

import os
import re
from typing import TYPE_CHECKING, Any

import click

from ..moments import duration

if TYPE_CHECKING:
    from ..settings import Settings

own_app = click.argument("app", metavar="[MODULE:FUNCTION]", required=False)
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+)):(?P<port>[0-9]{1,5})")


def settings_of(app: str | None) -> "Settings":
    """Read the settings; `app` takes the place of QAA_APP. Raises SettingsError."""
    from ..settings import Settings

    return Settings.from_environment({**os.environ, "QAA_APP": app} if app else None)


class Bind(click.ParamType[tuple[str, int]]):
    """HOST:PORT, with an IPv6 address in brackets."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        match = _ADDRESS.fullmatch(value)
        if match is None or int(match["port"]) >= 2**16:
            self.fail(f"{value!r} is not HOST:PORT, like 127.0.0.1:8000 or [::1]:8000")
        return match["ipv6"] or match["host"], int(match["port"])


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
