"""What `doctor` looks at in a SQLite database: its file, the disk under it, and its write-ahead log."""

import asyncio
import os
import shutil
import stat
from pathlib import Path

from ..db.connection import Database
from .check import Check

FREE_BYTES = 512 * 1024**2
WAL_BYTES = 256 * 1024**2


async def checks(database: Database, file: Path) -> list[Check]:
    [[mode]] = await database.rows("PRAGMA journal_mode")
    of_the_file = await asyncio.to_thread(lambda: [_mode(file), _disk(file), _log(file)])
    return [_journal(str(mode)), *of_the_file]


def _journal(mode: str) -> Check:
    if mode != "wal":
        return Check(
            "journal",
            fault=f"the journal mode is {mode}",
            why="reads wait for writes; on a network file system, for example, SQLite has no write-ahead log",
            remedy="move the file to a local disk",
        )
    return Check("journal", "write-ahead log")


def _mode(file: Path) -> Check:
    mode = stat.S_IMODE(os.stat(file).st_mode)
    if mode & 0o077:
        return Check(
            "file mode",
            fault=f"others may open {file} (mode {mode:o})",
            why="it holds the secrets of webhooks",
            remedy=f"chmod 600 {file}",
        )
    return Check("file mode", f"{mode:o}")


def _disk(file: Path) -> Check:
    free = shutil.disk_usage(file.resolve().parent).free
    if free < FREE_BYTES:
        return Check(
            "disk",
            fault=f"{megabytes(free)} are free on the disk of {file}",
            why="on a full disk, no job is accepted and none can end",
            remedy=f"df -h {file.resolve().parent}",
        )
    return Check("disk", f"{megabytes(free)} are free")


def _log(file: Path) -> Check:
    log = file.with_name(f"{file.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > WAL_BYTES:
        return Check(
            "write-ahead log",
            fault=f"{log} has {megabytes(size)}",
            why="a transaction that stays open keeps it from being written back: it grows, and reads slow down",
            remedy=f"fuser -v {file}, and end the program that holds a transaction open",
        )
    return Check("write-ahead log", megabytes(size))


def megabytes(size: int) -> str:
    return f"{size / 1024**2:.0f} MB"
