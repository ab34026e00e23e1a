"""`quart-async-api worker`: a process that runs jobs, and serves nothing but its health checks."""

from typing import Any

import click

from .parameters import Bind, own_app, settings_of


def _split(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not (names := tuple(filter(None, (name.strip() for name in value.split(","))))):
        raise click.BadParameter("names no queue; leave it out to take the jobs of all queues", context, parameter)
    return names


@click.command()
@own_app
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    help="Maximum running jobs in this process (default: QAA_JOB_CONCURRENCY).",
)
@click.option(
    "--queues",
    metavar="NAMES",
    callback=_split,
    help="Queues whose jobs to run, comma-separated; a task names its queue by @task(queue=…) (default: all).",
)
@click.option(
    "--bind",
    type=Bind(),
    default="127.0.0.1:0",
    show_default=True,
    help="Address for /health/live and /health/ready, which need no key; port 0 picks a free port.",
)
def worker(app: str | None, concurrency: int | None, queues: tuple[str, ...] | None, bind: tuple[str, int]) -> None:
    """Run jobs until SIGTERM or Ctrl-C, with any engine and any number of workers. All migrations must be applied.

    MODULE:FUNCTION makes the app, in place of QAA_APP.

    If no heartbeat reaches the database for two leases (QAA_LEASE_SECONDS), other workers may run its jobs: it stops them,
    and goes on when the database is back. If the database does not even answer, the worker ends with exit code 75: let its
    supervisor start it again.
    """
    from ..observability.logging import configure

    settings = settings_of(app)
    given: dict[str, Any] = {} if concurrency is None else {"job_concurrency": concurrency}
    settings = settings.model_copy(update=given)
    configure(settings)
    from ..server import runner

    runner.work(settings, *bind, queues)
