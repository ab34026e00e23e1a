"""Copies a database into another one, which may be of the other kind: `quart-async-api db copy`.

It runs in one thread on connections of its own. The source is read as of one moment. The target gets all rows in one
transaction, which compares them with the source before it commits. So a copy is complete, or nothing is written.

Each row is copied as it is. The workers of the source are then dead workers of the target: the first process there
queues their running jobs again, as after a crash.
"""

import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from ..errors import DatabaseUnusable
from .failures import reason
from .packages import OF_THE_SERVICE, Packages
from .tables import Row, Table, tables
from .url import DatabaseUrl, parse

BATCH = 100  # rows in memory at a time: a job may have two megabytes
_PROGRESS = 50_000  # rows between two lines of progress
_MADE_BY_MIGRATE = ("webhook_secrets", "key_id = ''")  # a new database has this row; the source's replaces it

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: the number of rows, and a checksum that does not depend on their order."""

    rows: int
    checksum: str


class _End(ABC):
    """One of the two databases, for one transaction. Statements have `?` for their parameters."""

    dialect: str

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def __enter__(self) -> "_End":
        self.begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()  # rolls back, unless it was committed

    def execute(self, sql: str, *values: Any) -> list[Row]:
        self._cursor.execute(self._marked(sql), values)
        return self._cursor.fetchall() if self._cursor.description else []

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        marks = ", ".join("?" for _ in table.columns)
        self._cursor.executemany(self._marked(f'INSERT INTO "{table.name}" ({table.names}) VALUES ({marks})'), rows)

    def count(self, table: Table) -> int:
        [[number]] = self.execute(f'SELECT COUNT(*) FROM "{table.name}"')
        return int(number)

    def largest(self, table: Table) -> int:
        [[number]] = self.execute(f'SELECT MAX("{table.key}") FROM "{table.name}"')
        return number or 0

    def _marked(self, sql: str) -> str:
        return sql

    def batches(self, table: Table) -> Iterator[list[Row]]:
        with closing(self._reading()) as cursor:
            cursor.execute(f'SELECT {self._asked(table)} FROM "{table.name}"')
            while rows := cursor.fetchmany(BATCH):
                yield rows

    def commit(self) -> None:
        self._connection.commit()

    def labels(self) -> set[str]:
        """Return the labels of the packages whose migrations are applied."""
        return {label for (label,) in self.execute("SELECT DISTINCT app FROM tortoise_migrations")}

    def _asked(self, table: Table) -> str:
        return table.names

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def lock(self, names: Sequence[str]) -> None:
        """Keep all others from writing to these tables until the transaction ends."""

    @abstractmethod
    def check_later(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """Let rows come before those that they refer to; check all at the end."""

    @abstractmethod
    def last_id(self, table: Table) -> int:
        """Return the last id that was given out, also if its row is deleted."""

    @abstractmethod
    def set_last_id(self, table: Table, last: int) -> None: ...

    @abstractmethod
    def _reading(self) -> Any:
        """Return a cursor that fetches rows as they are needed."""


class _Sqlite(_End):
    dialect = "sqlite"

    def __init__(self, url: DatabaseUrl, *, writes: bool) -> None:
        connection = sqlite3.connect(
            f"file:{quote(str(url.file))}?mode={'rw' if writes else 'ro'}",
            uri=True,
            isolation_level=None,
            timeout=url.credentials["busy_timeout"] / 1000,
        )
        # Bytes that are not UTF-8 become lone surrogates, which `Column.fault` finds.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        super().__init__(connection)
        self._writes = writes

    def begin(self) -> None:
        self.execute("PRAGMA synchronous=FULL")
        self.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
        self.execute("SELECT COUNT(*) FROM sqlite_master")  # from here on, reads see this moment

    def lock(self, names: Sequence[str]) -> None: ...

    @contextmanager
    def check_later(self, names: Sequence[str]) -> Iterator[None]:
        yield  # foreign keys are off on this connection
        if orphans := self.execute("PRAGMA foreign_key_check"):
            raise DatabaseUnusable(f"rows of {orphans[0][0]} have no parent; nothing was written")

    def last_id(self, table: Table) -> int:
        given = self.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", table.name)
        return max(self.largest(table), *(int(seq) for (seq,) in given), 0)

    def set_last_id(self, table: Table, last: int) -> None:
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", table.name)
        self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table.name, last)

    def _reading(self) -> Any:
        return self._connection.cursor()


class _Postgresql(_End):
    dialect = "postgresql"

    def __init__(self, url: DatabaseUrl, *, writes: bool) -> None:
        import psycopg

        connection = psycopg.connect(url.conninfo(max(2, round(url.credentials["timeout"]))))
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = not writes
        super().__init__(connection)
        self._wait = round(url.credentials["timeout"] * 1000)

    def begin(self) -> None:
        self.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        self.execute("SET LOCAL statement_timeout = 0")
        self.execute(f"SET LOCAL lock_timeout = {self._wait}")

    def lock(self, names: Sequence[str]) -> None:
        every = ", ".join(f'"{name}"' for name in names)
        self.execute(f"LOCK TABLE {every} IN SHARE ROW EXCLUSIVE MODE")

    @contextmanager
    def check_later(self, names: Sequence[str]) -> Iterator[None]:
        found = self.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint "
            "WHERE contype = 'f' AND NOT condeferrable "
            "AND conrelid IN (SELECT quote_ident(name)::regclass FROM unnest(?::text[]) AS name)",
            list(names),
        )
        for table, name in found:
            self.execute(f"ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY DEFERRED")
        yield
        if found:
            self.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table, name in found:
            self.execute(f"ALTER TABLE {table} ALTER CONSTRAINT {name} NOT DEFERRABLE")

    def last_id(self, table: Table) -> int:
        [[given]] = self.execute(
            "SELECT pg_sequence_last_value(pg_get_serial_sequence(quote_ident(?), ?)::regclass)", table.name, table.key
        )
        return max(self.largest(table), given or 0)

    def set_last_id(self, table: Table, last: int) -> None:
        self.execute(
            "SELECT setval(pg_get_serial_sequence(quote_ident(?), ?), GREATEST(?::bigint, 1), ?::bigint > 0)",
            table.name, table.key, last, last,
        )  # fmt: skip

    def _marked(self, sql: str) -> str:
        return sql.replace("?", "%s")

    def _asked(self, table: Table) -> str:
        return ", ".join(f'"{column.name}"{column.form.cast}' for column in table.columns)

    def _reading(self) -> Any:
        return self._connection.cursor(name="reading")


def copy(source: str, target: str, say: Say, packages: Packages = (OF_THE_SERVICE,)) -> dict[str, Contents]:
    """Copy all rows of the tables of these packages from `source` into `target`. Return what each table holds then.

    `target` must be migrated and empty. `say` gets lines of progress, and one line for each value that does not fit.
    Raises DatabaseUnusable, SettingsError; nothing is written then.
    """
    from_url, to_url = parse(source), parse(target)
    every = tables(packages)
    try:
        with _opened(from_url, writes=False) as reading, _opened(to_url, writes=True) as writing:
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


def _opened(url: DatabaseUrl, *, writes: bool) -> _End:
    return _Sqlite(url, writes=writes) if url.file is not None else _Postgresql(url, writes=writes)


def _refused(error: Exception) -> str | None:
    """Say why a database has refused a row, as one with too many digits."""
    psycopg = sys.modules.get("psycopg")
    refusals = (sqlite3.IntegrityError, *((psycopg.DataError, psycopg.IntegrityError) if psycopg else ()))
    return f"refuses a row: {' '.join(str(error).split())}" if isinstance(error, refusals) else None


def _check_known(reading: _End, packages: Packages, of: str) -> None:
    if unknown := sorted(reading.labels() - {package.label for package in packages}):
        raise DatabaseUnusable(f"{of} has tables of {', '.join(unknown)}: name the app with these models by QAA_APP")


def _copy(reading: _End, writing: _End, every: list[Table], say: Say, to: str) -> dict[str, Contents]:
    names = [table.name for table in every]
    writing.lock(names)
    _check_empty(writing, every, to)
    _check_fits(reading, every, say, to)
    with writing.check_later(names):
        return _copy_all(reading, writing, every, say, to)


def _copy_all(reading: _End, writing: _End, every: list[Table], say: Say, to: str) -> dict[str, Contents]:
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


def _check_empty(writing: _End, every: list[Table], to: str) -> None:
    name, condition = _MADE_BY_MIGRATE
    writing.execute(f"DELETE FROM {name} WHERE {condition}")
    for table in every:
        if rows := writing.count(table):
            raise DatabaseUnusable(f"{to} is not empty: {table.name} has {rows} rows; copy into a new database")


def _check_fits(reading: _End, every: list[Table], say: Say, to: str) -> None:
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


def _carried(reading: _End, writing: _End, table: Table, say: Say) -> Iterator[list[Row]]:
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
