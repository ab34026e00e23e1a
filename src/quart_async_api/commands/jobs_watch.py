"""Watches a job from a terminal or a script: reads its events from the database as they arrive."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..jobs.states import Status
from ..service import Service
from .messages import of_problem

POLL_SECONDS = 0.25


async def watch_to_its_end(service: Service, job_id: str, as_json: bool) -> int:
    """Print events until the job has ended. Return the exit code."""
    if as_json:
        name = ""
        async for name, number, data in _events(service, job_id):
            event = {"event": name, "id": f"{job_id}:{number}", "data": data}
            click.echo(json.dumps(event, ensure_ascii=False))
        return 0 if name == Status.SUCCEEDED else 1
    await _draw(service, job_id)
    job = await service.store.reading.get(job_id, None)
    if job.status is Status.SUCCEEDED:
        click.echo(json.dumps(job.part("result"), ensure_ascii=False, indent=2))
        return 0
    problem = job.part("error") or {"title": "Job cancelled", "detail": "a cancelled job has no result"}
    click.echo(f"error: {of_problem(problem)}", err=True)
    return 1


async def _events(service: Service, job_id: str) -> AsyncIterator[tuple[str, int, dict[str, Any]]]:
    """Name, number and data of a `snapshot` and of every event after it, to the last one."""
    job = await service.store.reading.get(job_id, None)
    seen = job.last_event
    yield "snapshot", seen, job.document(whole=False)
    if job.status.is_terminal:
        yield job.status.value, seen, job.document(whole=False)
        return
    while True:
        for event in await service.store.history.events(job_id, seen):
            seen = event.number
            yield event.name, seen, event.data
            if Status.is_terminal_name(event.name):
                return
        await asyncio.sleep(POLL_SECONDS)


async def _draw(service: Service, job_id: str) -> None:
    """Draw a bar on standard error, or a line per event if that is not a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)
        async for name, _, data in _events(service, job_id):
            line = _line(name, data)
            if not console.is_terminal:
                click.echo(line, err=True)
            elif name == "snapshot":
                bars.update(bar, description=escape(data["task"]), **_position(data["progress"]))
            elif name == "progress":
                message = data["message"]
                bars.update(bar, description=message and escape(message), **_position(data))
            elif name in ("log", "retry"):
                bars.console.print(escape(line), highlight=False)
            elif name == Status.SUCCEEDED:
                bars.update(bar, completed=1, total=1)


def _position(progress: dict[str, Any] | None) -> dict[str, Any]:
    return {} if progress is None else {"completed": progress["current"], "total": progress["total"]}


def _line(name: str, data: dict[str, Any]) -> str:
    match name:
        case "snapshot":
            return f"{data['task']} job {data['id']} is {data['status']}"
        case "progress":
            percent = data["percent"]
            done = f"{data['current']:g}" if percent is None else f"{percent:g}%"
            return f"{done} {data['message'] or ''}".rstrip()
        case "log":
            return str(data["text"])
        case "retry":
            why = of_problem(data["error"]) if data.get("error") else "its process died"
            return f"attempt {data['attempt']} failed: {why}; again at {data['run_at']}"
    return name
