"""Chooses the job engine by the settings, and imports its libraries."""

import importlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ..background.loops import Loop
from ..db import migration
from ..db.connection import Database
from ..db.notifications import Notifications, Wake
from ..db.packages import OF_THE_SERVICE, Packages
from ..db.url import DatabaseUrl, parse
from ..errors import SettingsError
from ..moments import Clock
from ..settings import JobsEngine, Settings
from .dispatch import Dispatch, JobEngine, LocalDispatch
from .embedded import EmbeddedEngine
from .runs import Runs
from .states import JobRecord, Status
from .tickets import DistributedDispatch


class NoEngine:
    """Runs no jobs, and wakes the processes that do."""

    loops: Sequence[Loop] = ()

    def __init__(self, dispatch: LocalDispatch, notifications: Notifications) -> None:
        self._notifications = notifications
        dispatch.listeners.append(self._dispatched)

    async def start(self) -> None: ...

    async def drain(self, grace: float) -> None: ...

    async def stop(self) -> None: ...

    def _dispatched(self, job: JobRecord) -> None:
        if job.status is Status.QUEUED:
            self._notifications.tell(Wake.WORK)
        elif job.status is Status.RUNNING:
            self._notifications.tell(Wake.CANCEL, job.id)


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """`make` the engine, or one that runs `none` of the jobs.

    `check` raises StartupError unless the database has the tables of the engine.
    """

    dispatch: Dispatch
    make: Callable[[Runs], JobEngine]
    none: Callable[[Runs], JobEngine]
    check: Callable[[Database], Awaitable[None]]


def chosen(settings: Settings, url: DatabaseUrl, notifications: Notifications, clock: Clock) -> ChosenEngine:
    """Return the engine that `settings` name.

    Raises SettingsError if the database or the installed packages are not enough for it.
    """
    if settings.jobs_engine is JobsEngine.EMBEDDED:
        local = LocalDispatch()
        return ChosenEngine(
            local,
            lambda runs: EmbeddedEngine(runs, local, notifications),
            lambda _: NoEngine(local, notifications),
            _needs_no_tables,
        )
    _check_distributed(url)
    from . import engine_schema
    from .distributed import DistributedEngine

    tickets = DistributedDispatch(clock=clock)
    return ChosenEngine(
        tickets,
        lambda runs: DistributedEngine(runs, tickets, notifications),
        lambda _: NoEngine(tickets, notifications),
        engine_schema.check,
    )


async def upgrade(settings: Settings, packages: Packages = (OF_THE_SERVICE,)) -> list[str]:
    """Apply the missing migrations of these packages, and those of the engine. Return their names, in order.

    Raises SettingsError, DatabaseUnusable, DatabaseBehind.
    """
    if settings.jobs_engine is JobsEngine.EMBEDDED:
        return await migration.upgrade(settings.database_url, packages)
    url = parse(settings.database_url)
    _check_distributed(url)
    from . import engine_schema

    return await migration.upgrade(settings.database_url, packages) + await engine_schema.upgrade(url)


def _check_distributed(url: DatabaseUrl) -> None:
    if url.file is not None:
        raise SettingsError(
            "QAA_JOBS_ENGINE=distributed needs PostgreSQL, and the database is a SQLite file: set QAA_DATABASE_URL to "
            "postgresql://…, or leave QAA_JOBS_ENGINE unset"
        )
    try:
        importlib.import_module("procrastinate")
    except ImportError as error:
        raise SettingsError(
            "QAA_JOBS_ENGINE=distributed needs the extra `distributed`: pip install 'quart-async-api[distributed]'"
        ) from error


async def _needs_no_tables(database: Database) -> None: ...
