"""Claims queued jobs for a worker. Each claim creates a run token, which fences the writes of the run."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..db.group_commit import Unit, in_step
from . import queue, sql, workers
from .states import JobRecord
from .units import Changes, JobUnits


class Claims:
    """Claims on one database. Times are arguments (timestamps)."""

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

    async def claim_by_tickets(
        self,
        tasks: Sequence[str],
        limit: int,
        worker: str,
        read_clock: Callable[[], str],
        new_token: Callable[[], str],
        take: "Take",
        exchange: "Exchange",
    ) -> tuple[int, list[JobRecord]]:
        """Take at most `limit` due tickets, and claim as many jobs for `worker`: the first of the queue, often others.

        The clock is read once the tickets are taken: earlier, a delayed job would be said to have started before its time.
        `exchange` then gives the tickets of these jobs to those that were passed over. Returns the number of tickets, too.
        """

        def unit(changes: Changes) -> "Unit[tuple[int, list[JobRecord]]]":
            asked = yield from take(tasks, limit)
            if not asked:
                return 0, []
            now = read_clock()
            # Together, in one round trip. Few tickets are of delayed jobs: only then is there a first one to be found anew.
            steps: list[Unit[Any]] = [
                workers.is_listed(worker),
                queue.promote_these(asked),
                queue.first(tasks, len(asked)),
            ]
            is_listed, are_promoted, found = yield from in_step(steps)
            if are_promoted:
                found = yield from queue.first(tasks, len(asked))
            claimed: list[JobRecord] = []
            if is_listed:
                taken = yield from in_step(_take(job_id, worker, now, new_token()) for job_id in found)
                claimed = [job for jobs in taken for job in jobs]
            runs, theirs = {job.id for job in claimed}, set(asked)
            exchanged = exchange(sorted(runs - theirs), sorted(theirs - runs))
            yield from in_step((queue.claimed(claimed), exchanged))
            return len(asked), claimed

        return await self._units.run(unit)


# Takes at most so many due tickets of tasks, and returns the ids of their jobs.
Take = Callable[[Sequence[str], int], Unit[list[str]]]
# Takes the tickets from jobs that were claimed by tickets of others, and gives tickets to jobs that wait without theirs.
Exchange = Callable[[Sequence[str], Sequence[str]], Unit[None]]


def _take(job_id: str, worker: str, now: str, token: str) -> Unit[list[JobRecord]]:
    taken = yield (
        "UPDATE jobs SET status = 'running', stage = 'running', attempt = attempt + 1, run_token = ?, worker = ?, "
        "started_at = ? WHERE id = ? AND stage = 'ready' AND status = 'queued' "
        # A unit of the same transaction may have deleted it meanwhile: no lock of ours holds that off.
        f"AND EXISTS (SELECT 1 FROM workers WHERE id = ?) RETURNING {sql.ALL}",
        (token, worker, now, job_id, worker),
    )
    return [sql.record(row) for row in taken.rows]
