"""Makes a consistent copy of a SQLite database that may be in use: `quart-async-api db backup`."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from ..errors import DatabaseUnusable
from .failures import reason


def backup(database: Path, file: Path) -> int:
    """Copy `database` to the new `file`, which only its owner may read. Return its size in bytes.

    Others may write to the database meanwhile; the copy has everything that was committed before it began. The file gets its
    name only after the copy was checked and flushed to the disk. Raises DatabaseUnusable, and then leaves no file.
    """
    if not database.is_file():
        raise DatabaseUnusable(f"the database {database} does not exist: check QAA_DATABASE_URL")
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        if os.path.lexists(file):
            raise FileExistsError
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            _copy(database, partial)
            _check(partial, file)
            _flush(partial)
            os.link(partial, file)  # and not a rename, which would overwrite
        finally:
            with suppress(FileNotFoundError):
                partial.unlink()
        _flush(file.parent)
        return file.stat().st_size
    except FileExistsError:
        raise DatabaseUnusable(f"{file} exists already: name a new file") from None
    except OSError as error:
        raise DatabaseUnusable(f"cannot write {file}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"cannot back up {database}: the database {reason(error) or error}") from error


def _copy(database: Path, partial: Path) -> None:
    with closing(_opened(database, "mode=ro")) as source, closing(_opened(partial, "mode=rw")) as target:
        # In one step: in WAL mode a reader stops no writer, and smaller steps start again after each write of others.
        source.backup(target)
        # Else SQLite would need two more files beside the copy to read it.
        target.execute("PRAGMA journal_mode=DELETE")


def _check(partial: Path, file: Path) -> None:
    with closing(_opened(partial, "mode=ro")) as copied:
        found = [row[0] for row in copied.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise DatabaseUnusable(f"the database is damaged, and {file} was not written: {' '.join(found[0].split())}")


def _opened(file: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?{how}", uri=True, isolation_level=None, timeout=10)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
