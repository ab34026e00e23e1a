"""`quart-async-api tasks`: the tasks of the configured service, for operators.

Each command imports its modules when it runs, so that --help is quick.
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from .parameters import readable

if TYPE_CHECKING:
    from ..jobs.states import JobRecord
    from ..service import Service
    from ..services.tasks import OperatedTask

_name = click.argument("name", metavar="TASK", callback=readable)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def tasks() -> None:
    """List, pause and resume tasks, and start scheduled ones."""


@tasks.command("list")
@_as_json
def list_(as_json: bool) -> None:
    """List all tasks, with their schedules and pauses."""
    from .connected import ask

    found = ask(lambda service: service.task_operations.all(), with_tasks=True)
    if as_json:
        click.echo(json.dumps([_document(operated) for operated in found], ensure_ascii=False))
        return
    for operated in found:
        click.echo(_line(operated))


@tasks.command()
@_name
@_as_json
def pause(name: str, as_json: bool) -> None:
    """Pause TASK: its jobs stay queued, and its schedule does not fire. Jobs that run go on."""
    _tell(lambda service: service.task_operations.pause(name), "task.pause", name, as_json)


@tasks.command()
@_name
@_as_json
def resume(name: str, as_json: bool) -> None:
    """Resume TASK: its queued jobs run again."""
    _tell(lambda service: service.task_operations.resume(name), "task.resume", name, as_json)


@tasks.command()
@_name
@click.option("--json", "as_json", is_flag=True, help="Print the job as one line of JSON.")
def run(name: str, as_json: bool) -> None:
    """Start the scheduled TASK now, and print the id of its job."""
    from .connected import ask

    async def work(service: "Service") -> "JobRecord":
        job = await service.task_operations.run(name)
        _record("task.run", name)
        return job

    job = ask(work, with_tasks=True)
    click.echo(json.dumps(job.document(), ensure_ascii=False) if as_json else job.id)


def _record(action: str, name: str) -> None:
    from ..access.audit import OPERATOR, record

    record(action, OPERATOR, name)


def _tell(change: Callable[["Service"], Awaitable["OperatedTask"]], action: str, name: str, as_json: bool) -> None:
    from .connected import ask

    async def work(service: "Service") -> "OperatedTask":
        changed = await change(service)
        _record(action, name)
        return changed

    operated = ask(work, with_tasks=True)
    click.echo(json.dumps(_document(operated), ensure_ascii=False) if as_json else _line(operated))


def _document(operated: "OperatedTask") -> dict[str, str | None]:
    return {
        "name": operated.task.name,
        "summary": operated.task.summary,
        "schedule": operated.task.schedule,
        "paused_at": operated.paused_at,
        "next_run_at": operated.next_run_at,
        "last_run_at": operated.last_run_at,
    }


def _line(operated: "OperatedTask") -> str:
    parts = [operated.task.name]
    if operated.paused_at is not None:
        parts.append(f"paused since {operated.paused_at[:19]}Z")
    if operated.task.schedule is not None:
        parts.append(f"schedule {operated.task.schedule}")
    parts += [
        f"{what} run {moment[:19]}Z"
        for what, moment in (("last", operated.last_run_at), ("next", operated.next_run_at))
        if moment is not None
    ]
    return "  ".join(parts)
