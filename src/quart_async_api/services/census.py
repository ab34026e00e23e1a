"""Figures of the whole database for /metrics and the watch: read at most once in a while, within a time limit."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from ..db.connection import Database
from ..errors import DatabaseUnavailable
from ..moments import Clock, moment, timestamp
from ..observability.metric_names import Figures

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH_SECONDS = 5.0
LIMIT_SECONDS = 2.0
SHARE = 20.0  # the reads take at most one part in so many of the time

# Only jobs that have not ended, which an index has.
_JOBS = (
    "SELECT task, stage, COUNT(*) AS n, MIN(CASE WHEN stage IN ('ready', 'delayed') AND run_at <= ? THEN run_at END) AS due "
    "FROM jobs WHERE status IN ('queued', 'running') GROUP BY task, stage"
)
_PAUSED = "SELECT name FROM task_states WHERE paused_at IS NOT NULL"
_CALLBACKS = (
    "SELECT COUNT(CASE WHEN worker IS NULL AND next_at <= ? THEN 1 END) AS due, "
    "COUNT(CASE WHEN open_until > ? THEN 1 END) AS broken FROM callback_queues"
)


class Census:
    """The figures of one database, by the name of their metric."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._figures: Figures = {}
        self._good_until = 0.0
        self._taking = asyncio.Lock()
        self.listeners: list[Callable[[Figures], None]] = []  # of what was read

    async def figures(self) -> Figures:
        """Return figures that are a few seconds old at most; just `qaa_database_up` 0 if they cannot be read in time."""
        async with self._taking:
            began = time.monotonic()
            if began >= self._good_until:
                try:
                    async with asyncio.timeout(LIMIT_SECONDS):
                        self._figures = await self._take()
                except (DatabaseUnavailable, TimeoutError):
                    self._figures = {"qaa_database_up": 0}
                for listener in self.listeners:
                    listener(self._figures)
                took = time.monotonic() - began
                self._good_until = began + took + max(FRESH_SECONDS, took * SHARE)
            return self._figures

    async def _take(self) -> Figures:
        now = self._clock()
        at = timestamp(now)
        paused = {row["name"] for row in await self._database.read(_PAUSED)}
        jobs: Counter[tuple[str, ...]] = Counter()
        oldest = now
        for row in await self._database.read(_JOBS, at):
            jobs[row["task"], row["stage"] or "ready"] += row["n"]
            if row["due"] is not None and row["task"] not in paused:
                oldest = min(oldest, moment(row["due"]))
        [workers] = await self._database.read("SELECT COUNT(*) AS n FROM workers")
        [callbacks] = await self._database.read(_CALLBACKS, at, at)
        return {
            "qaa_database_up": 1,
            "qaa_jobs": jobs,
            "qaa_oldest_due_job_age_seconds": max(now - oldest, timedelta(0)).total_seconds(),
            "qaa_tasks_paused": {(task,): 1.0 for task in paused},
            "qaa_workers": workers["n"],
            "qaa_callback_queues_due": callbacks["due"],
            "qaa_callback_breakers_open": callbacks["broken"],
        }
