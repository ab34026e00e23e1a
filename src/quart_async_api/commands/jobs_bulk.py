"""`quart-async-api jobs bulk`: cancel or retry all jobs that match a filter.

Each command imports its modules when it runs, so that --help is quick.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .parameters import readable

if TYPE_CHECKING:
    from ..service import Service


@click.group()
def bulk() -> None:
    """Cancel or retry all jobs that match. A running server does it, as a job."""


def _options(statuses: tuple[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print the job, or the number of jobs, as JSON."),
            click.option("--dry-run", is_flag=True, help="Count the jobs, and change none."),
            click.option("--created-before", metavar="TIME", callback=readable, help="Like 2026-11-21T07:00:00Z."),
            click.option("--created-after", metavar="TIME", callback=readable, help="Like 2026-11-21T07:00:00Z."),
            click.option("--task", callback=readable, help="Only jobs of this task."),
            click.option("--status", type=click.Choice(statuses), help="Only jobs with this status (default: both)."),
        ):
            command = option(command)
        return command

    return add


@bulk.command()
@_options(("queued", "running"))
def cancel(**options: Any) -> None:
    """Cancel queued and running jobs. Print the id of the job that does it."""
    _start("cancel", **options)


@bulk.command()
@_options(("failed", "cancelled"))
def retry(**options: Any) -> None:
    """Retry failed and cancelled jobs. Print the id of the job that does it."""
    _start("retry", **options)


def _start(action: str, *, dry_run: bool, as_json: bool, **filters: str | None) -> None:
    from ..access.audit import OPERATOR, record
    from ..services.bulk import OPTIONS, SPARE, Action, bulk_jobs, wanted
    from .connected import ask

    async def work(service: "Service") -> tuple[Any, str]:
        given = {name: value for name, value in filters.items() if value is not None}
        arguments = service.submissions.arguments(bulk_jobs, {"action": action, "filter": given})
        which = wanted(Action(action), bulk_jobs.values(arguments)["filter"], None, service.now())
        if dry_run:
            count = await service.store.bulk.count(which)
            return {"matching": count}, f"{count} job{' matches' if count == 1 else 's match'}"
        job = await service.submissions.submit(bulk_jobs, arguments, OPTIONS, spare=SPARE)
        record("job.bulk", OPERATOR, job.id)
        return job.document(), job.id

    document, text = ask(work, with_tasks=True)
    click.echo(json.dumps(document, ensure_ascii=False) if as_json else text)
