"""Deletes expired jobs and old rows. A tombstone is the record of an expired job."""

from ..db.group_commit import GroupCommit, Unit, in_step, one
from ..moments import later
from .usage import removed

BATCH = 500  # jobs in one transaction, to keep it short
_TOMBSTONE = "INSERT INTO job_tombstones (id, task, finished_at, expires_at, owner) VALUES (?, ?, ?, ?, ?)"


class Retention:
    """Retention of one database. Times are arguments (timestamps)."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits

    async def expire(self, now: str, tombstone_ttl: float, limit: int = BATCH) -> int:
        """Replace at most `limit` expired jobs by tombstones. Return their number."""
        return await self._replace("expires_at < ?", now, now, tombstone_ttl, limit)

    async def _replace(self, which: str, value: str, now: str, tombstone_ttl: float, limit: int) -> int:

        def unit() -> Unit[int]:
            # Not those that another process replaces.
            old = yield (
                f"SELECT id, task, finished_at, owner, bytes FROM jobs WHERE {which} LIMIT ? /*FOR UPDATE SKIP LOCKED*/",
                (value, limit),
            )
            if not old.rows:
                return 0
            ids = [row["id"] for row in old.rows]
            marks = ", ".join("?" for _ in ids)
            expires_at = later(now, tombstone_ttl)
            yield from in_step(
                one((_TOMBSTONE, (row["id"], row["task"], row["finished_at"], expires_at, row["owner"])))
                for row in old.rows
            )
            for table, column in (
                ("job_events", "job_id"),
                ("job_attempts", "job_id"),
                ("job_bulks", "job_id"),
                ("jobs", "id"),
            ):
                yield (f"DELETE FROM {table} WHERE {column} IN ({marks})", ids)
            yield from removed(old.rows, jobs=1)
            return len(ids)

        return await self._commits.run(unit)

    async def forget(self, now: str) -> None:
        """Delete expired tombstones and idempotency keys, and schedule ticks older than a day."""

        def unit() -> Unit[None]:
            yield ("DELETE FROM job_tombstones WHERE expires_at < ?", (now,))
            yield ("DELETE FROM schedule_ticks WHERE tick < ?", (later(now, -86_400),))

        await self._commits.run(unit)
        while await self._commits.run(lambda: _forget_answers(now)):
            pass

    async def purgeable(self, finished_before: str) -> int:
        """Return the number of jobs that ended before that time."""

        def unit() -> Unit[int]:
            counted = yield ("SELECT COUNT(*) AS n FROM jobs WHERE finished_at < ?", (finished_before,))
            return int(counted.rows[0]["n"])

        return await self._commits.run(unit)

    async def purge(self, finished_before: str, now: str, tombstone_ttl: float) -> int:
        """Replace the jobs that ended before that time by tombstones. Return their number."""
        purged = 0
        while count := await self._replace("finished_at < ?", finished_before, now, tombstone_ttl, BATCH):
            purged += count
        return purged


def _forget_answers(now: str, limit: int = 500) -> Unit[int]:
    gone = yield (
        "DELETE FROM idempotency_keys WHERE expires_at < ? AND key IN "
        "(SELECT key FROM idempotency_keys WHERE expires_at < ? LIMIT ?) RETURNING owner, bytes",
        (now, now, limit),
    )
    yield from removed(gone.rows, jobs=0)
    return len(gone.rows)
