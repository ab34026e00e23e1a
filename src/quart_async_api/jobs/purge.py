"""Purging: finished jobs expire before their time, by hand."""

from ..db.group_commit import GroupCommit, Unit
from .states import later
from .store import JobStore

BATCH = 500  # jobs in one transaction: others want the database too


async def purgeable(commits: GroupCommit, finished_before: str) -> int:
    """How many jobs ended before that moment."""

    def unit() -> Unit[int]:
        counted = yield ("SELECT COUNT(*) AS n FROM jobs WHERE finished_at < ?", (finished_before,))
        return int(counted.rows[0]["n"])

    return await commits.run(unit)


async def purge(store: JobStore, commits: GroupCommit, finished_before: str, now: str, tombstone_ttl: float) -> int:
    """Make tombstones of the jobs that ended before that moment; their number."""
    just_expired = later(now, -1e-6)

    def unit() -> Unit[int]:
        expired = yield (
            "UPDATE jobs SET expires_at = ? WHERE id IN "
            "(SELECT id FROM jobs WHERE finished_at < ? AND expires_at >= ? ORDER BY id LIMIT ?)",
            (just_expired, finished_before, now, BATCH),
        )
        return expired.count

    purged = 0
    while count := await commits.run(unit):
        purged += count
        while await store.expire(now, tombstone_ttl, BATCH):
            pass
    return purged
