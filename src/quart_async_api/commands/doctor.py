"""`quart-async-api doctor`: what is wrong, why it matters, and what to type."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..services.check import Check
    from ..settings import Settings


@click.command()
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print all checks as JSON.")
def doctor(urls: tuple[str, ...], as_json: bool) -> None:
    """Check the database, its tables, the workers and the queue. Changes nothing. Exit code 1: something is wrong.

    Each fault has its reason and a remedy: a command, or what to change. URLs are those of running processes, such as
    http://127.0.0.1:8000: each is asked at /health/ready for what only it knows, such as a blocked event loop.
    """
    import asyncio

    from ..observability.logging import configure
    from ..settings import Settings

    settings = Settings.from_environment()
    configure(settings)
    checks = asyncio.run(_examine(settings, urls))
    faults = [check for check in checks if check.fault is not None]
    if as_json:
        shown = [{"name": check.name, "status": "fail" if check.fault else "pass"} | _said(check) for check in checks]
        click.echo(json.dumps({"status": "fail" if faults else "pass", "checks": shown}, ensure_ascii=False))
    else:
        for check in checks:
            if check.fault is None:
                click.echo(f"ok     {check.name}: {check.seen}")
            else:
                click.echo(f"FAULT  {check.name}: {check.fault}\n       why: {check.why}\n       do:  {check.remedy}")
    if faults:
        sys.exit(1)


def _said(check: "Check") -> dict[str, str]:
    return {name: text for name, text in asdict(check).items() if name != "name" and text}


async def _examine(settings: "Settings", urls: Iterable[str]) -> list["Check"]:
    from ..errors import SettingsError
    from ..loading import load_service
    from ..service import Service
    from ..services.check import Check
    from ..services.checkup import Checkup
    from . import doctor_processes

    found = []
    try:
        service = load_service(settings)
    except SettingsError as error:
        service = Service(settings, {})
        remedy = "correct QAA_APP" if settings.app else "correct QAA_TASKS"
        found.append(Check("task modules", fault=str(error), why="servers and workers do not start", remedy=remedy))
    tasks = None if found else service.tasks
    found += await Checkup(service.settings, service.database, service.store.workers, service.liveness, tasks).run()
    for url in urls:
        found += await doctor_processes.checks(url)
    return found
