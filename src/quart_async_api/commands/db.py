"""`quart-async-api db`: copies of the database. Each command imports its modules when it runs, so that --help is quick."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .parameters import settings_of

if TYPE_CHECKING:
    from ..db.packages import Packages


@click.group()
def db() -> None:
    """Copy the database to another one, or back it up."""


@db.command()
@click.option("--from", "source", metavar="URL", required=True, help="URL of the database to read.")
@click.option("--to", "target", metavar="URL", required=True, help="URL of the new, migrated database to write.")
@click.option(
    "--allow-workers",
    is_flag=True,
    help="Copy although processes of the service use the source. Both databases then run the unfinished jobs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print rows and checksum of each table as JSON.")
def copy(source: str, target: str, allow_workers: bool, as_json: bool) -> None:
    """Copy all data to a new database, from SQLite to PostgreSQL or back; with QAA_APP, also the tables of the app.

    Stop the service first. The copy is checked and complete, or nothing is written. Queued jobs run in the new database;
    running jobs start again there, as after a crash.
    """
    import asyncio

    from ..db import copy as copying
    from ..loading import load_tables

    packages = load_tables(settings_of(None))[1]
    asyncio.run(_check(target, packages))
    asyncio.run(_check(source, packages, alone=not allow_workers))
    copied = copying.copy(source, target, lambda line: click.echo(line, err=True), packages)
    if as_json:
        click.echo(json.dumps({name: {"rows": each.rows, "checksum": each.checksum} for name, each in copied.items()}))
    else:
        click.echo(f"copied {sum(each.rows for each in copied.values())} rows of {len(copied)} tables")


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the file and its size in bytes as JSON.")
def backup(file: Path, as_json: bool) -> None:
    """Copy the SQLite database of the settings to the new FILE, also while the service runs."""
    from ..db.backup import backup as make
    from ..db.url import parse
    from ..errors import DatabaseUnusable
    from ..settings import Settings

    url = parse(Settings.from_environment().database_url)
    if url.file is None:
        raise DatabaseUnusable(
            "this command is for SQLite; back up PostgreSQL with its own: "
            f"pg_dump --format=custom --file={file} '{url.printable}'"
        )
    size = make(url.file, file)
    if as_json:
        click.echo(json.dumps({"file": str(file), "bytes": size}))
    else:
        click.echo(f"{file}: {size} bytes, checked")


async def _check(url: str, packages: "Packages", *, alone: bool = False) -> None:
    """Check that the database has the newest schema and, if `alone`, that no worker uses it.

    Raises StartupError with the URL, DatabaseUnavailable.
    """
    from ..db.connection import Database
    from ..db.migration import check
    from ..errors import DatabaseBehind, DatabaseUnusable
    from ..jobs.liveness import liveness

    database = Database(url, packages)
    try:
        await database.start()
        await check(database)
        if not alone:
            return
        locks = liveness(database.url)
        workers = [row["id"] for row in await database.read("SELECT id FROM workers")]
        alive = [worker for worker in workers if not await locks.is_dead(worker, math.inf)]
        await locks.release()
        if alive:
            raise DatabaseUnusable(
                f"{database.location} may be in use by {len(alive)} workers ({', '.join(alive)}): "
                "stop the service, or give --allow-workers"
            )
    except DatabaseBehind as error:
        raise DatabaseBehind(f"{database.location}: {error}") from error
    finally:
        await database.stop()
