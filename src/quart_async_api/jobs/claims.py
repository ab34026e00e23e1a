"""Claims queued jobs for a worker. Each claim creates a run token, which fences the writes of the run."""

from collections.abc import Callable, Container, Sequence
from functools import partial

from ..db.group_commit import Unit, in_step
from . import queue, sql, workers
from .states import JobRecord
from .units import Changes, JobUnits


class Claims:
    """Claims on one database. Times are arguments (timestamps): no method reads the clock."""

    def __init__(self, units: JobUnits) -> None:
        self._units = units

    async def claim(
        self, tasks: Sequence[str], limit: int, worker: str, now: str, new_token: Callable[[], str]
    ) -> list[JobRecord]:
        """Claim at most `limit` due jobs of `tasks` for `worker`, the most urgent first, of each owner in turn.

        If very many become due at once, the earliest become ready first, and a claim does not wait for the rest.
        """

        def unit(changes: Changes, *, may_wait: bool) -> "Unit[list[JobRecord] | None]":
            if not (yield from workers.is_listed(worker)):
                return []  # declared dead: nothing would release its new claims
            if (yield from queue.promote(now)) and may_wait:
                return None  # the most urgent job may still be delayed
            found = yield from queue.first(tasks, limit)
            taken = yield from in_step(_take(job_id, worker, now, new_token()) for job_id in found)
            claimed = [job for jobs in taken for job in jobs]
            yield from queue.claimed(claimed)
            return claimed

        for more in reversed(range(queue.PROMOTING_UNITS)):
            claimed = await self._units.run(partial(unit, may_wait=more > 0))
            if claimed is not None:
                return claimed
        return []

    async def claim_one(
        self, job_id: str, tasks: Container[str], worker: str, now: str, token: str
    ) -> JobRecord | None:
        """Claim this job for `worker`, even before its `run_at`: an engine with tickets keeps the time itself.

        Returns None if the job is not queued, is held until its slot is free, or is not of one of `tasks`.
        """

        def unit(changes: Changes) -> "Unit[JobRecord | None]":
            if not (yield from workers.is_listed(worker)):
                return None
            found = yield ("SELECT task FROM jobs WHERE id = ?", (job_id,))
            if not found.rows or found.rows[0]["task"] not in tasks:
                return None
            yield from queue.promote_one(job_id)
            taken = yield from _take(job_id, worker, now, token)
            yield from queue.claimed(taken)
            return taken[0] if taken else None

        return await self._units.run(unit)


def _take(job_id: str, worker: str, now: str, token: str) -> Unit[list[JobRecord]]:
    taken = yield (
        "UPDATE jobs SET status = 'running', stage = 'running', attempt = attempt + 1, run_token = ?, worker = ?, "
        f"started_at = ? WHERE id = ? AND stage = 'ready' AND status = 'queued' RETURNING {sql.ALL}",
        (token, worker, now, job_id),
    )
    return [sql.record(row) for row in taken.rows]
