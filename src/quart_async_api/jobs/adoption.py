"""Repairs jobs that a process of an older version has written after `migrate`: their stage does not match their status."""

from ..db.connection import Database
from ..db.group_commit import AtEnd, Unit, in_step
from ..db.models import MISPLACED
from . import queue, sql
from .states import Status
from .units import Changes, JobUnits


class Adoption:
    def __init__(self, database: Database, units: JobUnits) -> None:
        self._database = database
        self._units = units

    async def adopt(self) -> int:
        """Give each such job the stage of its status, and recount the usage of all owners. Return the number of such jobs."""
        if not await self._database.read(f"SELECT 1 FROM jobs WHERE {MISPLACED} LIMIT 1"):
            return 0

        def unit(changes: Changes) -> Unit[int]:
            adopted = yield (
                "UPDATE jobs SET stage = CASE status WHEN 'queued' THEN 'delayed' WHEN 'running' THEN 'running' END, "
                "turn = CASE status WHEN 'running' THEN COALESCE(turn, 0) END "
                f"WHERE {MISPLACED} RETURNING {sql.ALL}",
                (),
            )
            jobs = sql.records(adopted.rows)
            for job in jobs:
                if job.status is Status.QUEUED:
                    yield from changes.queued(job)
            yield from in_step(queue.admit(job, changes) for job in jobs)
            # The older version counted neither their creation nor their end.
            if self._database.url.file is None:
                # After the sums of other units in this batch: they are about jobs that the count has as they are now.
                yield AtEnd(_recount)
            else:
                yield from _recount()
            return len(adopted.rows)

        return await self._units.run(unit)


def _recount() -> Unit[None]:
    # Changes by other processes come before all of this, or after.
    yield ("/*LOCK TABLE job_usage IN EXCLUSIVE MODE*/", ())
    yield ("DELETE FROM job_usage", ())
    yield (
        "INSERT INTO job_usage (owner, unfinished, jobs, bytes) "
        "SELECT owner, SUM(unfinished), SUM(jobs), SUM(bytes) FROM (SELECT COALESCE(owner, '') AS owner, "
        "CASE WHEN status IN ('queued', 'running') THEN 1 ELSE 0 END AS unfinished, 1 AS jobs, bytes FROM jobs "
        "UNION ALL SELECT owner, 0, 0, bytes FROM idempotency_keys) AS stored GROUP BY owner",
        (),
    )
