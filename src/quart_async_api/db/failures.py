"""Distinguishes a temporarily unavailable database from faults of the code, for the errors of all drivers."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tortoise.exceptions import BaseORMException, DBConnectionError

from ..errors import DatabaseUnavailable
from .open_file import FileGone

# Primary result codes: https://sqlite.org/rescode.html
_SQLITE = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_READONLY: "is not writable",
    sqlite3.SQLITE_PERM: "is not writable",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails",
    sqlite3.SQLITE_FULL: "is full",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
}

_LOST = ("25006", "25P03")  # a standby; a transaction that was idle for too long


def as_unavailable(error: BaseException) -> DatabaseUnavailable | None:
    """Return the DatabaseUnavailable for `error`, or None for another kind of error.

    Handles the errors of sqlite3 and psycopg, also inside Tortoise's exceptions.
    """
    if isinstance(error, DatabaseUnavailable):
        return error
    if (why := reason(error)) is None:
        return None
    unavailable = DatabaseUnavailable(f"the database {why}")
    unavailable.__cause__ = error
    return unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors inside that mean it, and other errors unchanged."""
    try:
        yield
    except Exception as error:
        if (unavailable := as_unavailable(error)) is None or unavailable is error:
            raise
        raise unavailable from error


def reason(error: BaseException) -> str | None:
    """Return the end of a line that begins with "the database", such as "is full"; None for an error of another kind."""
    if isinstance(error, sqlite3.Error):
        if isinstance(error, FileGone):
            return "was removed or replaced"
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if isinstance(error, DBConnectionError):
        return f"failed: {_line(error)}"
    if isinstance(error, BaseORMException) and error.args and isinstance(error.args[0], BaseException):
        return reason(error.args[0])
    psycopg = sys.modules.get("psycopg")  # not imported here: without PostgreSQL, it may not be installed
    if psycopg is not None and isinstance(error, psycopg.Error):
        lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) or error.sqlstate in _LOST
        return f"failed: {_line(error)}" if lost else None
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
