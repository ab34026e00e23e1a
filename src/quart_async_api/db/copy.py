"""Copies a database into another one, which may be of the other kind: `quart-async-api db copy`.

It runs in one thread on connections of its own. The source is read as of one moment. The target gets all rows in one
transaction, which compares them with the source before it commits. So a copy is complete, or nothing is written.

Values stay what they are, in the form of the target. The workers of the source are then dead workers of the target: the first
process there queues their running jobs again, as after a crash.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from ..errors import DatabaseUnusable
from .copy_ends import End, opened
from .failures import reason
from .packages import OF_THE_SERVICE, Packages
from .tables import Row, Table, tables
from .url import parse

_PROGRESS = 50_000  # rows between two lines of progress
_MADE_BY_MIGRATE = ("webhook_secrets", "key_id = ''")  # a new database has this row; the source's replaces it

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: the number of rows, and a checksum that does not depend on their order."""

    rows: int
    checksum: str


def copy(source: str, target: str, say: Say, packages: Packages = (OF_THE_SERVICE,)) -> dict[str, Contents]:
    """Copy all rows of the tables of these packages from `source` into `target`. Return what each table holds then.

    `target` must be migrated and empty. `say` gets lines of progress, and one line for each value that does not fit.
    Raises DatabaseUnusable, SettingsError; nothing is written then.
    """
    from_url, to_url = parse(source), parse(target)
    every = tables(packages)
    try:
        with opened(from_url, writes=False) as reading, opened(to_url, writes=True) as writing:
            _check_known(reading, packages, from_url.printable)
            copied = _copy(reading, writing, every, say, to_url.printable)
            writing.commit()
            return copied
    except Exception as error:
        if (why := reason(error) or _refused(error)) is None:
            raise
        raise DatabaseUnusable(
            f"cannot copy {from_url.printable} to {to_url.printable}: a database {why}; nothing was written"
        ) from error


def _refused(error: Exception) -> str | None:
    """Say why a database has refused a row, as one with too many digits."""
    psycopg = sys.modules.get("psycopg")
    refusals = (sqlite3.IntegrityError, *((psycopg.DataError, psycopg.IntegrityError) if psycopg else ()))
    return f"refuses a row: {' '.join(str(error).split())}" if isinstance(error, refusals) else None


def _check_known(reading: End, packages: Packages, of: str) -> None:
    if unknown := sorted(reading.labels() - {package.label for package in packages}):
        raise DatabaseUnusable(f"{of} has tables of {', '.join(unknown)}: name the app with these models by QAA_APP")


def _copy(reading: End, writing: End, every: list[Table], say: Say, to: str) -> dict[str, Contents]:
    names = [table.name for table in every]
    writing.lock(names)
    _check_empty(writing, every, to)
    _check_fits(reading, every, say, to)
    with writing.check_later(names):
        return _copy_all(reading, writing, every, say, to)


def _copy_all(reading: End, writing: End, every: list[Table], say: Say, to: str) -> dict[str, Contents]:
    copied: dict[str, Contents] = {}
    for table in every:
        expected = _contents(table, _carried(reading, writing, table, say))
        if table.is_numbered:
            writing.set_last_id(table, reading.last_id(table))
        copied[table.name] = _contents(table, writing.batches(table))
        if copied[table.name] != expected:
            raise DatabaseUnusable(
                f"{table.name} differs in {to}: {copied[table.name]} instead of {expected}; nothing was written"
            )
        say(f"{table.name}: {expected.rows} rows, checked")
    return copied


def _check_empty(writing: End, every: list[Table], to: str) -> None:
    name, condition = _MADE_BY_MIGRATE
    writing.execute(f"DELETE FROM {name} WHERE {condition}")
    for table in every:
        if rows := writing.count(table):
            raise DatabaseUnusable(f"{to} is not empty: {table.name} has {rows} rows; copy into a new database")


def _check_fits(reading: End, every: list[Table], say: Say, to: str) -> None:
    faults = 0
    for table in every:
        for rows in reading.batches(table):
            for row in rows:
                for fault in table.faults(row):
                    faults += 1
                    say(fault)
    if faults:
        raise DatabaseUnusable(
            f"{faults} values of the source do not fit in {to}: correct or delete these rows; nothing was written"
        )


def _carried(reading: End, writing: End, table: Table, say: Say) -> Iterator[list[Row]]:
    done, carries = 0, table.carries(writing.dialect)
    for rows in reading.batches(table):
        carried = [carries(row) for row in rows]
        writing.insert(table, carried)
        yield carried
        done += len(carried)
        if done % _PROGRESS < len(carried):
            say(f"{table.name}: {done} rows so far")


def _contents(table: Table, batches: Iterator[list[Row]]) -> Contents:
    rows, total, compares = 0, 0, table.compares()
    for batch in batches:
        rows += len(batch)
        total += sum(int.from_bytes(sha256(repr(compares(row)).encode()).digest()) for row in batch)
    return Contents(rows, f"{total % 2**256:064x}")
