"""`quart-async-api jobs`: the jobs in the configured database, with or without a running server.

Each command imports its modules when it runs, so that --help is quick.
"""

import json
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from .jobs_bulk import bulk
from .parameters import Duration, readable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..jobs.states import JobRecord
    from ..service import Service
    from ..tasks import Task

STATES = ("queued", "running", "succeeded", "failed", "cancelled")

_job_id = click.argument("job_id", metavar="ID", callback=readable)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print the job as one line of JSON.")
_as_events = click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")


@click.group()
def jobs() -> None:
    """Submit, watch and manage jobs in the database. A running server runs them."""


jobs.add_command(bulk)


@jobs.command()
@click.argument("task", callback=readable)
@click.argument("arguments", metavar="[NAME=VALUE]...", nargs=-1, callback=readable)
@click.option("--args", "args_json", metavar="JSON", callback=readable, help="All arguments as one JSON object.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    default=0,
    show_default=True,
    help="Jobs with a higher priority run first.",
)
@click.option("--delay", type=Duration(), help="Time until the job may start: 30, 15m, 12h, 7d.")
@click.option("--timeout", type=Duration(), help="Maximum time for one attempt.")
@click.option("--max-attempts", type=click.IntRange(1, 100), help="Maximum number of attempts; the task has a default.")
@click.option("--watch", "watched", is_flag=True, help="Watch the job to its end, as `jobs watch` does.")
@click.option("--json", "as_json", is_flag=True, help="Print the job, or with --watch its events, as JSON.")
def submit(
    task: str,
    arguments: tuple[str, ...],
    args_json: str | None,
    priority: int,
    delay: float | None,
    timeout: float | None,
    max_attempts: int | None,
    watched: bool,
    as_json: bool,
) -> None:
    """Submit a job that runs TASK.

    A VALUE is text if the argument is text, otherwise JSON. The same NAME twice makes a list.
    """
    if args_json is not None and arguments:
        raise click.UsageError("Give NAME=VALUE or --args, not both.")
    if timeout == 0:
        raise click.BadParameter("must be more than 0", param_hint="--timeout")

    async def work() -> int:
        from ..services.submissions import Options
        from .jobs_watch import watch_to_its_end

        async with _connected() as service:
            submissions = service.submissions
            known = submissions.task(task)
            checked = _checked(service, known, arguments, args_json)
            run_at = submissions.not_before(delay, None)
            job = await submissions.submit(known, checked, Options(priority, run_at, timeout, max_attempts))
            _audit("job.submit", job.id)
            if watched:
                return await watch_to_its_end(service, job.id, as_json)
            _tell(job, as_json, job.id)
            return 0

    _run(work())


@jobs.command("list")
@click.option("--status", type=click.Choice(STATES), help="List only jobs with this status.")
@click.option("--task", callback=readable, help="List only jobs of this task.")
@click.option("--limit", type=click.IntRange(1, 1000), default=25, show_default=True, help="Maximum number of jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of jobs.")
def list_(status: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""

    async def work() -> int:
        from ..jobs.states import Status

        async with _connected() as service:
            found = await service.store.reading.page(limit, None, status=Status(status) if status else None, task=task)
        if as_json:
            click.echo(json.dumps([job.document(whole=False) for job in found], ensure_ascii=False))
            return 0
        for job in found:
            click.echo(f"{job.id}  {job.created_at[:19]}Z  {job.status:<9}  {_progress(job):>4}  {job.task}")
        return 0

    _run(work())


@jobs.command()
@_job_id
@_as_json
def show(job_id: str, as_json: bool) -> None:
    """Show a job with its attempts, and the tracebacks of failed ones."""

    async def work() -> int:
        async with _connected() as service:
            job = await service.store.reading.get(job_id, None)
            document = job.document() | {"attempts": await service.store.reading.attempts(job_id, tracebacks=True)}
        click.echo(json.dumps(document, ensure_ascii=False, indent=None if as_json else 2))
        return 0

    _run(work())


@jobs.command()
@_job_id
@_as_events
def watch(job_id: str, as_json: bool) -> None:
    """Watch a job to its end, then print its result. The exit code is 0 only if it succeeded."""

    async def work() -> int:
        from .jobs_watch import watch_to_its_end

        async with _connected() as service:
            return await watch_to_its_end(service, job_id, as_json)

    _run(work())


@jobs.command()
@_job_id
@_as_json
def cancel(job_id: str, as_json: bool) -> None:
    """Cancel a job. A running job is asked to stop."""

    async def work() -> int:
        async with _connected() as service:
            _, job = await service.submissions.cancel(job_id)
            _audit("job.cancel", job_id)
        _tell(
            job, as_json, "cancelled" if job.status.is_terminal else "cancellation requested; the job is still running"
        )
        return 0

    _run(work())


@jobs.command()
@_job_id
@click.option("--args", "args_json", metavar="JSON", callback=readable, help="Other arguments, as one JSON object.")
@_as_json
def retry(job_id: str, args_json: str | None, as_json: bool) -> None:
    """Run a failed or cancelled job again, as a new job. With --args, run any ended job again."""
    args = None if args_json is None else _object(args_json)

    async def work() -> int:
        async with _connected() as service:
            job = await service.submissions.retry(job_id, args=args)
            _audit("job.retry", job_id)
        _tell(job, as_json, job.id)
        return 0

    _run(work())


@jobs.command()
@click.option("--older-than", type=Duration(), required=True, help="Minimum time since the job ended: 12h, 7d.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the number of deleted jobs as JSON; needs --yes.")
def purge(older_than: float, yes: bool, as_json: bool) -> None:
    """Delete finished jobs, with their results, events and attempts."""
    if as_json and not yes:
        raise click.UsageError("--json cannot ask for confirmation: add --yes.")

    async def work() -> int:
        from ..moments import later

        async with _connected() as service:
            now = service.now()
            limit = later(now, -older_than)
            if not yes:
                count = await service.store.retention.purgeable(limit)
                if not count:
                    click.echo("no job ended that long ago")
                    return 0
                click.confirm(f"Delete {count} finished job{'s' if count > 1 else ''}?", abort=True)
            purged = await service.store.retention.purge(limit, now, service.settings.tombstone_ttl)
            _audit("job.purge", None)
        click.echo(json.dumps({"purged": purged}) if as_json else f"purged {purged}")
        return 0

    _run(work())


def _run(work: Coroutine[Any, Any, int]) -> None:
    import asyncio

    if code := asyncio.run(work):
        sys.exit(code)


@asynccontextmanager
async def _connected() -> AsyncIterator["Service"]:
    from ..observability.logging import logged
    from ..settings import Settings
    from .connected import connected

    settings = Settings.from_environment()
    with logged(settings):  # the audit log
        async with connected(settings, with_tasks=True) as service:
            yield service


def _audit(action: str, target: str | None) -> None:
    from ..access.audit import OPERATOR, record

    record(action, OPERATOR, target)


def _tell(job: "JobRecord", as_json: bool, text: str) -> None:
    click.echo(json.dumps(job.document(), ensure_ascii=False) if as_json else text)


def _progress(job: "JobRecord") -> str:
    percent = (job.document()["progress"] or {}).get("percent")
    return "" if percent is None else f"{percent:.0f}%"


# Arguments as they are typed


def _checked(service: "Service", task: "Task", pairs: Iterable[str], args_json: str | None) -> "BaseModel":
    if args_json is not None:
        return service.submissions.arguments(task, _parsed(args_json))
    return service.submissions.arguments(task, _from_pairs(task, pairs))


def _parsed(args_json: str) -> Any:
    try:
        return json.loads(args_json, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is not valid JSON: {error}", param_hint="--args") from None


def _object(args_json: str) -> dict[str, Any]:
    sent = _parsed(args_json)
    if not isinstance(sent, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--args")
    return sent


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _from_pairs(task: "Task", pairs: Iterable[str]) -> dict[str, Any]:
    properties = task.arguments.model_json_schema().get("properties", {})
    sent: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="NAME=VALUE")
        sent.setdefault(name, []).append(_value(text, properties.get(name, {})))
    return {
        name: values if len(values) > 1 or _is_list(properties.get(name, {}), values[0]) else values[0]
        for name, values in sent.items()
    }


def _is_list(schema: dict[str, Any], value: Any) -> bool:
    return schema.get("type") == "array" and not isinstance(value, list)


def _value(text: str, schema: dict[str, Any]) -> Any:
    kinds = {schema.get("type"), *(choice.get("type") for choice in schema.get("anyOf", ()))}
    if "string" in kinds:
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
