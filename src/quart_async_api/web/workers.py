"""/console/workers: the processes on the database, for admins."""

from dataclasses import dataclass
from typing import Any

from quart import Blueprint, render_template

from ..http.contract.needs import Scope, needs
from ..http.parts import parts
from ..moments import moment
from .durations import ago, spent

blueprint = Blueprint("worker_pages", __name__)

_SHOWN = 8  # running jobs of a worker; a link has all


@dataclass(frozen=True, slots=True)
class _Row:
    """A worker with its times in words; `is_late`: its heartbeat is older than its lease."""

    worker: dict[str, Any]
    is_this: bool
    up: str
    beat: str | None
    is_late: bool
    running: list[str]
    more: int


@blueprint.get("/console/workers")
@needs(Scope.ADMIN)
async def workers() -> str:
    service = parts()
    now, lease = service.clock(), service.settings.lease_seconds
    rows = []
    for worker in await service.store.workers.all():
        beaten = worker["last_beat_at"]
        silent = (now - moment(beaten)).total_seconds() if beaten else None
        rows.append(
            _Row(
                worker,
                worker["id"] == service.presence.id,
                spent((now - moment(worker["started_at"])).total_seconds()),
                None if silent is None else ago(silent),
                silent is not None and silent > lease,
                worker["running"][:_SHOWN],
                max(0, len(worker["running"]) - _SHOWN),
            )
        )
    return await render_template("workers.html", rows=rows, lease=f"{lease:g}")
