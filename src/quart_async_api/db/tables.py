"""The tables of models as `db copy` sees them: their columns, and what values each may hold."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tortoise.context import TortoiseContext

from ..errors import DatabaseUnusable
from .forms import FORMS, Form, same
from .packages import OF_THE_SERVICE, Packages
from .url import parse

if TYPE_CHECKING:
    from tortoise.apps import Apps

Row = tuple[Any, ...]

# Tables and columns that describe the database itself. In a copy the columns get these values.
OF_ONE_DATABASE = frozenset({"engine_migrations"})
ANEW: Mapping[tuple[str, str], Any] = {("job_events", "txid"): 0}

_NOT_UNICODE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Column:
    """`longest` in characters, `least` and `most` for numbers; None: no bound."""

    name: str
    form: Form
    is_nullable: bool
    longest: int | None
    least: int | None
    most: int | None

    def fault(self, value: Any) -> str | None:
        """Return why no database of ours can hold the value in this column, or None."""
        if value is None:
            return None if self.is_nullable else "is missing"
        if type(value) not in self.form.kinds:
            return f"is of the type {type(value).__name__}"
        try:
            self.form.compared(value)
        except ValueError as error:
            return f"cannot be read: {' '.join(str(error).split())}"
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
    """The first column is the primary key, if there is one. `is_numbered`: the database gives it out."""

    name: str
    columns: tuple[Column, ...]
    is_numbered: bool

    @property
    def key(self) -> str:
        return self.columns[0].name

    @property
    def names(self) -> str:
        return ", ".join(f'"{column.name}"' for column in self.columns)

    def carries(self, dialect: str) -> Callable[[Row], Row]:
        """Return what makes the row of a copy in such a database."""
        made = {at: getattr(column.form, dialect) for at, column in enumerate(self.columns)}
        anew = {at: partial(_anew, ANEW[key]) for at, key in enumerate(self._keys()) if key in ANEW}
        return _changing(made | anew)

    def compares(self) -> Callable[[Row], Row]:
        """Return what makes the row in the form that is the same in all databases."""
        return _changing({at: column.form.compared for at, column in enumerate(self.columns)})

    def faults(self, row: Sequence[Any]) -> Iterator[str]:
        """Yield a line for each value of the row that does not fit."""
        for column, value in zip(self.columns, row, strict=True):
            if (fault := column.fault(value)) is not None:
                yield f"{self.name}, row {row[0]!a}: {column.name} {fault}"

    def _keys(self) -> Iterator[tuple[str, str]]:
        return ((self.name, column.name) for column in self.columns)


def _anew(value: Any, _: Any) -> Any:
    return value


def _changing(made: Mapping[int, Callable[[Any], Any]]) -> Callable[[Row], Row]:
    """Return a function that makes these values of a row anew, where there are any."""
    changes = {at: make for at, make in made.items() if make is not same}

    def change(row: Row) -> Row:
        values = list(row)
        for at, make in changes.items():
            if values[at] is not None:
                values[at] = make(values[at])
        return tuple(values)

    return change if changes else tuple


def tables(packages: Packages = (OF_THE_SERVICE,)) -> list[Table]:
    """Return all tables that a copy carries, by name. Raises DatabaseUnusable for a type that no copy carries."""
    described = asyncio.run(_describe(packages))
    by_name = {each["name"]: each for each in described}
    found = [_table(each) for each in described]
    for each in described:
        found += [
            _between(each, by_name[field["python_type"]], field)
            for field in each["m2m_fields"]
            if not field["_generated"]
        ]
    return sorted((each for each in found if each.name not in OF_ONE_DATABASE), key=lambda table: table.name)


async def _describe(packages: Packages) -> list[dict[str, Any]]:
    """Return what Tortoise says about the models, which know each other then."""
    async with TortoiseContext() as context:
        await context.init(config=parse("sqlite://never-opened.db").config(packages))
        apps = cast("Apps", context.apps)  # there, once initialised
        return [model.describe() for models in apps.values() for model in models.values()]


def _table(described: Mapping[str, Any]) -> Table:
    key, name = described["pk_field"], described["table"]
    return Table(name, tuple(_column(name, field) for field in (key, *described["data_fields"])), key["generated"])


def _between(one: Mapping[str, Any], other: Mapping[str, Any], field: Mapping[str, Any]) -> Table:
    """Return the table of a many-to-many relation."""
    ends = ((field["backward_key"], one), (field["forward_key"], other))
    name = field["through"]
    return Table(
        name, tuple(_column(name, end["pk_field"] | {"db_column": key}) for key, end in ends), is_numbered=False
    )


def _column(table: str, field: Mapping[str, Any]) -> Column:
    bounds, types = field["constraints"], field["db_field_types"]
    kind = types.get("postgres", types[""])
    form = FORMS.get(kind.partition("(")[0])
    if form is None:
        raise DatabaseUnusable(f"{table}.{field['db_column']} has the type {kind}, which `db copy` does not carry")
    return Column(
        field["db_column"],
        form,
        field["nullable"],
        bounds.get("max_length"),
        bounds.get("ge"),
        bounds.get("le"),
    )
