"""The table of workers: each is alive as long as its beat grows."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Unit

BEAT = "UPDATE workers SET beat = beat + 1, last_beat_at = ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Process:
    """What operators see of a worker: its host, its process id there, and its job engine."""

    host: str | None = None
    pid: int | None = None
    engine: str | None = None


class Workers:
    """The workers of one database. `Crashes.bury` deletes dead workers and releases their runs."""

    def __init__(self, database: Database, commits: GroupCommit) -> None:
        self._database = database
        self._commits = commits

    async def register(self, worker: str, now: str, process: Process = Process()) -> None:
        def unit() -> Unit[None]:
            yield (
                "INSERT INTO workers (id, beat, started_at, last_beat_at, host, pid, engine) VALUES (?, 0, ?, ?, ?, ?, ?)",
                (worker, now, now, process.host, process.pid, process.engine),
            )

        await self._commits.run(unit)

    async def beat(self, worker: str, now: str) -> bool:
        """Count up the beat. Return False if the worker was declared dead."""

        def unit() -> Unit[bool]:
            beaten = yield (BEAT, (now, worker))
            return beaten.count > 0

        return await self._commits.run(unit)

    async def beats(self) -> dict[str, int]:
        """Return the beat of each worker."""
        return {row["id"]: row["beat"] for row in await self._database.read("SELECT id, beat FROM workers")}

    async def all(self) -> list[dict[str, Any]]:
        """Return the documents of all workers, the oldest first, with the ids of the jobs that they run.

        A worker of an older version has no host, pid, engine and time of its last beat.
        """
        running: defaultdict[str, list[str]] = defaultdict(list)
        for worker, job_id in await self._database.rows(
            "SELECT worker, id FROM jobs WHERE status = 'running' ORDER BY id"
        ):
            running[worker].append(job_id)
        found = await self._database.read(
            "SELECT id, host, pid, engine, started_at, last_beat_at FROM workers ORDER BY id"
        )
        return [row | {"running": running[row["id"]]} for row in found]

    async def dismiss(self, worker: str) -> bool:
        """Delete a worker. Return False if it is not in the table, or still has running jobs."""

        def unit() -> Unit[bool]:
            yield ("SELECT 1 FROM workers WHERE id = ? /*FOR UPDATE*/", (worker,))  # waits for its claims
            dismissed = yield (
                "DELETE FROM workers WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM jobs WHERE status = 'running' AND worker = ?)",
                (worker, worker),
            )
            return dismissed.count > 0

        return await self._commits.run(unit)


def is_listed(worker: str) -> Unit[bool]:
    """Return whether the worker may claim. It then stays listed until the commit: `struck_off` waits."""
    found = yield ("SELECT 1 FROM workers WHERE id = ? /*FOR KEY SHARE*/", (worker,))
    return bool(found.rows)


def is_silent(worker: str, beat: int | None) -> Unit[bool]:
    """Return whether a worker is not in the table, or has not counted on since `beat` (None: any).

    It cannot count on until the commit.
    """
    found = yield ("SELECT beat FROM workers WHERE id = ? /*FOR NO KEY UPDATE*/", (worker,))
    return beat is None or all(row["beat"] == beat for row in found.rows)


def struck_off(worker: str, beat: int | None) -> Unit[bool]:
    """Delete a worker. Return False if it is not in the table, or has counted on since `beat` (None: any)."""
    removed = yield ("DELETE FROM workers WHERE id = ? AND beat = COALESCE(?, beat)", (worker, beat))
    return removed.count > 0
