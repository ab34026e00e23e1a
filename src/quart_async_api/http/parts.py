"""The parts of the service that a route may use, as app.py wired them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from quart import current_app

from ..db.connection import Database
from ..jobs.background import BackgroundJobs
from ..lifecycle import Lifecycle
from ..settings import Settings
from ..tasks import Task

EXTENSION = "quart_async_api"


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    lifecycle: Lifecycle
    database: Database
    tasks: Mapping[str, Task]
    jobs: BackgroundJobs


def parts() -> Parts:
    """The parts of the app that handles this request."""
    return cast("Parts", current_app.extensions[EXTENSION])
