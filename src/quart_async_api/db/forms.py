"""The forms in which SQLite and PostgreSQL hold values, by the types of PostgreSQL: the same value in both, for `db copy`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """`kinds` of values that a database returns. `compared` makes the same of both databases' values, or raises ValueError.

    `sqlite` and `postgresql` make what is written there. `cast`: of a column that PostgreSQL is asked for.
    """

    kinds: tuple[type, ...]
    compared: Callable[[Any], Any] = same
    sqlite: Callable[[Any], Any] = same
    postgresql: Callable[[Any], Any] = same
    cast: str = ""


def _moment(value: str | datetime) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _day(value: str | date) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _number(value: str | float | Decimal) -> Decimal:
    try:
        return Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"{value!r} is not a number") from None


def _json(value: str | float) -> str:
    """SQLite keeps a number alone as a number."""
    return value if isinstance(value, str) else json.dumps(value)


def _compared_json(value: str | float) -> str:
    """The same text for equal values: PostgreSQL keeps neither the order of names nor the form of numbers."""
    return json.dumps(json.loads(_json(value), parse_int=float), sort_keys=True)


def _id(value: str | UUID) -> UUID:
    return UUID(str(value))


_WHOLE, _TEXT = Form((int,)), Form((str,))
FORMS: Mapping[str, Form] = {
    "SMALLINT": _WHOLE,
    "INT": _WHOLE,
    "BIGINT": _WHOLE,
    "CHAR": _TEXT,
    "VARCHAR": _TEXT,
    "TEXT": _TEXT,
    "DOUBLE PRECISION": Form((float, int)),
    "BOOL": Form((int, bool), bool, int, bool),
    "DECIMAL": Form(
        (str, int, float, Decimal),
        lambda value: _number(value).normalize(),
        lambda value: f"{_number(value):f}",
        _number,
    ),
    "TIMESTAMPTZ": Form((str, datetime), _moment, lambda value: _moment(value).isoformat(" "), _moment),
    "DATE": Form((str, date), _day, lambda value: _day(value).isoformat(), _day),
    "UUID": Form((str, UUID), _id, str, _id),
    "JSONB": Form((str, int, float), _compared_json, _json, _json, cast="::text"),
    "BYTEA": Form((bytes,)),
}
