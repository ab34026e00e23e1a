"""The tables of models.py as `db copy` sees them: their columns, and what values each may hold."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tortoise import Model

from . import models

Row = tuple[Any, ...]

# Tables and columns that describe the database itself. In a copy the columns get these values.
OF_ONE_DATABASE = frozenset({"engine_migrations"})
ANEW: Mapping[tuple[str, str], Any] = {("job_events", "txid"): 0}

_KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,)}
_NOT_UNICODE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Column:
    """`longest` in characters, `least` and `most` for numbers; None: no bound."""

    name: str
    kinds: tuple[type, ...]
    is_nullable: bool
    longest: int | None
    least: int | None
    most: int | None

    def fault(self, value: Any) -> str | None:
        """Return why no database of ours can hold the value in this column, or None."""
        if value is None:
            return None if self.is_nullable else "is missing"
        if type(value) not in self.kinds:
            return f"is of the type {type(value).__name__}"
        if isinstance(value, str):
            return self._fault_of_text(value)
        if self.least is not None and self.most is not None and not self.least <= value <= self.most:
            return f"is out of range ({self.least} to {self.most})"
        return None

    def _fault_of_text(self, value: str) -> str | None:
        if self.longest is not None and len(value) > self.longest:
            return f"has {len(value)} characters, and at most {self.longest} are allowed"
        if value.isascii():
            return "has the character NUL" if "\0" in value else None
        if "\0" in value:
            return "has the character NUL"
        return "is not valid UTF-8" if _NOT_UNICODE.search(value) else None


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is the primary key. `is_numbered`: the database gives it out."""

    name: str
    columns: tuple[Column, ...]
    is_numbered: bool

    @property
    def names(self) -> str:
        return ", ".join(f'"{column.name}"' for column in self.columns)

    def carried(self, row: Row) -> Row:
        """Return the row as it is written in a copy."""
        anew = {at: ANEW[key] for at, key in enumerate(self._keys()) if key in ANEW}
        return tuple(anew.get(at, value) for at, value in enumerate(row)) if anew else tuple(row)

    def faults(self, row: Sequence[Any]) -> Iterator[str]:
        """Yield a line for each value of the row that does not fit."""
        for column, value in zip(self.columns, row, strict=True):
            if (fault := column.fault(value)) is not None:
                yield f"{self.name}, row {row[0]!a}: {column.name} {fault}"

    def _keys(self) -> Iterator[tuple[str, str]]:
        return ((self.name, column.name) for column in self.columns)


def tables() -> list[Table]:
    """Return all tables that a copy carries, by name."""
    kinds = (each for each in vars(models).values() if isinstance(each, type) and issubclass(each, Model))
    found = (_table(kind.describe()) for kind in kinds if kind is not Model)
    return sorted((each for each in found if each.name not in OF_ONE_DATABASE), key=lambda table: table.name)


def _table(described: Mapping[str, Any]) -> Table:
    key = described["pk_field"]
    return Table(
        described["table"], tuple(_column(field) for field in (key, *described["data_fields"])), key["generated"]
    )


def _column(field: Mapping[str, Any]) -> Column:
    bounds = field["constraints"]
    return Column(
        field["db_column"],
        _KINDS[field["python_type"]],
        field["nullable"],
        bounds.get("max_length"),
        bounds.get("ge"),
        bounds.get("le"),
    )
