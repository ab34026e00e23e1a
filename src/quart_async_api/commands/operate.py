"""`quart-async-api workers` and `callbacks`: what runs where, and what was sent.

Each command imports its modules when it runs, so that --help is quick.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from .parameters import readable

if TYPE_CHECKING:
    from ..service import Service

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_as_json
def workers(as_json: bool) -> None:
    """List the processes on the database, and the jobs that they run."""
    from .connected import ask

    found = ask(lambda service: service.store.workers.all())
    if as_json:
        click.echo(json.dumps(found))
        return
    for worker in found:
        place = f"{worker['host'] or '?'}:{worker['pid'] or '?'}"
        running = len(worker["running"])
        click.echo(
            f"{worker['id']}  {place}  {worker['engine'] or '?'}  started {worker['started_at'][:19]}Z  "
            f"{running} job{'' if running == 1 else 's'} running"
        )


@click.group()
def callbacks() -> None:
    """List the callbacks of all jobs, and replay one."""


@callbacks.command("list")
@click.option(
    "--status", type=click.Choice(("pending", "delivered", "failed")), help="List only callbacks with this status."
)
@click.option("--origin", callback=readable, help="List only callbacks to this origin, like https://example.org:443.")
@click.option("--limit", type=click.IntRange(1, 1000), default=25, show_default=True, help="Maximum number.")
@_as_json
def list_(status: str | None, origin: str | None, limit: int, as_json: bool) -> None:
    """List callbacks, newest first."""
    from ..access.caller import ANYONE
    from .connected import ask

    async def work(service: "Service") -> list[dict[str, Any]]:
        page = await service.callbacks.page(limit, ANYONE, status=status, origin=origin)
        return [document for _, document in page]

    found = ask(work)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for callback in found:
        tries = len(callback["attempts"])
        click.echo(
            f"{callback['id']}  {callback['job_id']}  {callback['type']}  {callback['status']:<9}  "
            f"{tries} tr{'y' if tries == 1 else 'ies'}  {callback['url']}"
        )


@callbacks.command()
@click.argument("job_id", metavar="JOB_ID", callback=readable)
@click.argument("callback_id", metavar="ID", callback=readable)
def replay(job_id: str, callback_id: str) -> None:
    """Send a callback of a job again, under the same id. A running server sends it."""
    from ..access.audit import OPERATOR, record
    from ..access.caller import ANYONE
    from .connected import ask

    async def work(service: "Service") -> None:
        await service.callbacks.replay(job_id, callback_id, ANYONE)
        record("callback.replay", OPERATOR, f"{job_id}/{callback_id}")

    ask(work)
    click.echo("will be sent again")
