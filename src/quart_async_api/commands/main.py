"""The command line. Each command imports its modules when it runs, so that --help is quick."""

import sys
from typing import Any

import click

from ..errors import ServiceError
from .db import db
from .doctor import doctor
from .jobs import jobs
from .keys import keys
from .makemigrations import makemigrations
from .messages import of_error
from .new import new
from .operate import callbacks, workers
from .parameters import Bind, own_app, settings_of
from .tasks import tasks
from .webhooks import webhooks
from .worker import worker


class _Commands(click.Group):
    """Prints a ServiceError as one line and exits with code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ServiceError as error:
            click.echo(f"error: {of_error(error)}", err=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quart-async-api")
def main() -> None:
    """An async API service for slow work: callers wait, poll, stream or get a callback.

    Settings are QAA_* environment variables, or lines in a file .env in the current folder.
    """


@main.command()
@own_app
@click.option(
    "--bind",
    type=Bind(),
    default="127.0.0.1:8000",
    show_default=True,
    help="Address to listen on; port 0 picks a free port.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Number of server processes that share the socket.",
)
@click.option("--no-jobs", is_flag=True, help="Run no jobs here; processes of `worker`, or other servers, run them.")
@click.option("--reload", is_flag=True, help="Restart when a source file changes: for development, with one process.")
@click.option("--inherited", type=int, hidden=True, help="Listening socket of the supervisor that starts this process.")
def serve(
    app: str | None, bind: tuple[str, int], processes: int, no_jobs: bool, reload: bool, inherited: int | None
) -> None:
    """Serve until SIGTERM or Ctrl-C. All migrations must be applied.

    MODULE:FUNCTION makes the app, in place of QAA_APP.
    """
    from ..observability.logging import configure

    if reload and processes > 1:
        raise click.UsageError("--reload works with one process: leave out --processes.")
    settings = settings_of(app)
    configure(settings)
    from ..server import runner as server

    if inherited is not None:
        server.serve_inherited(settings, inherited, runs_jobs=not no_jobs, alone=reload)
    elif code := server.serve(settings, *bind, processes, runs_jobs=not no_jobs, reload=reload):
        sys.exit(code)


@main.command()
@own_app
@click.option("--json", "as_json", is_flag=True, help="Print the applied migrations as JSON.")
def migrate(app: str | None, as_json: bool) -> None:
    """Apply missing migrations; create a SQLite database if it is missing.

    MODULE:FUNCTION makes the app, in place of QAA_APP: its migrations come after those of the service.
    """
    import asyncio
    import json

    settings = settings_of(app)
    from ..jobs.engines import upgrade
    from ..loading import load_tables
    from .webhooks import create_missing

    settings, packages = load_tables(settings)
    applied = asyncio.run(upgrade(settings, packages))
    create_missing(settings)
    if as_json:
        click.echo(json.dumps({"applied": applied}))
    else:
        click.echo(f"applied {', '.join(applied)}" if applied else "the database is up to date")


main.add_command(makemigrations)
main.add_command(new)
main.add_command(worker)
main.add_command(doctor)
main.add_command(db)
main.add_command(jobs)
main.add_command(tasks)
main.add_command(workers)
main.add_command(callbacks)
main.add_command(keys)
main.add_command(webhooks)


@main.command()
@own_app
def openapi(app: str | None) -> None:
    """Print the OpenAPI document.

    MODULE:FUNCTION makes the app, in place of QAA_APP.
    """
    settings = settings_of(app)
    from ..http.contract.openapi import document
    from ..loading import load_app

    click.echo(document(load_app(settings)).decode())
