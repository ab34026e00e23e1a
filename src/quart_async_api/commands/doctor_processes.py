"""What `doctor` asks running processes for: what only they know is in their `/health/ready`."""

from collections.abc import Mapping
from typing import Any

from ..client.errors import ClientError
from ..client.health import Health, health
from ..services.check import Check

_WHY = {  # by the beginning of the check's name
    "database:connection": ("it cannot do anything", "start the database; see the other checks"),
    "process:draining": ("it takes no new work, and ends", "start another one"),
    "event-loop": ("while it is blocked, the process answers nobody", "move the call to a task with run_in='thread'"),
    "attention:long-run": ("it may hang, and keeps its place", "quart-async-api jobs show ID, then cancel"),
    "attention:growing-queue": ("jobs wait longer and longer", "more workers, or worker --concurrency"),
    "attention:missed-schedule": ("its task did not run", "read the log around that minute"),
    "attention:dead-worker": (
        "its jobs run a second time",
        "read its last log lines, and the kernel's: memory may lack",
    ),
}
_LOOP = ("what it does is left undone", "read the log for the reason")


async def checks(url: str) -> list[Check]:
    """Ask the process at `url`, which may be an API process or a worker."""
    name = url.partition("://")[2] or url
    try:
        return judged(name, await health(url))
    except ClientError as error:
        return [Check(name, fault=str(error), why="it may take no work", remedy="read its log, or correct the URL")]


def judged(name: str, found: Health) -> list[Check]:
    bad = [(each, check) for each, some in found.items() for check in some if check.get("status") != "pass"]
    return [_fault(name, *one) for one in bad] or [Check(name, "is ready")]


def _fault(name: str, check: str, said: Mapping[str, Any]) -> Check:
    why, remedy = next((about for begins, about in _WHY.items() if check.startswith(begins)), _LOOP)
    return Check(f"{name} {check}", fault=str(said.get("output", "fails")), why=why, remedy=remedy)
