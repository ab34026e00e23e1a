"""The two databases of `db copy`, each for one transaction."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any
from urllib.parse import quote

from ..errors import DatabaseUnusable
from .tables import Row, Table
from .url import DatabaseUrl

BATCH = 100  # rows in memory at a time: a job may have two megabytes


class End(ABC):
    """One of the two databases, for one transaction. Statements have `?` for their parameters."""

    dialect: str

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def close(self) -> None:
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


class _Sqlite(End):
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


class _Postgresql(End):
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


@contextmanager
def opened(url: DatabaseUrl, *, writes: bool) -> Iterator[End]:
    """Open a transaction, and close it with its connection."""
    with closing(_Sqlite(url, writes=writes) if url.file is not None else _Postgresql(url, writes=writes)) as end:
        end.begin()
        yield end
