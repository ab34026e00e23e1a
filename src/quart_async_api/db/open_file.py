"""Detects that an open SQLite file was removed or replaced: SQLite would go on with the removed file."""

import os
import sqlite3
from pathlib import Path


class FileGone(sqlite3.OperationalError):
    """The open file was removed or replaced."""

    sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    sqlite_errorname = "SQLITE_READONLY_DBMOVED"

    def __init__(self) -> None:
        super().__init__("the database's file was removed or replaced")


class OpenFile:
    """The file that `path` names now. Raises FileGone if there is none.

    Waits for the disk: use it in a thread of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.gone = False
        self._opened = self._stat()

    def check(self) -> None:
        """Check that `path` still names this file. Raises FileGone."""
        if not os.path.samestat(self._stat(), self._opened):
            self.gone = True
            raise FileGone

    def _stat(self) -> os.stat_result:
        try:
            return os.stat(self._path)
        except OSError as error:
            self.gone = True
            raise FileGone from error
