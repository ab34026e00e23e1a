"""The list of processes that run jobs: each is alive as long as it beats."""

from ..db.connection import Database
from ..db.group_commit import GroupCommit, Unit

BEAT = "UPDATE workers SET beat = beat + 1 WHERE id = ?"


class Workers:
    """A worker that is declared dead is struck off by Transitions.bury, with its runs."""

    def __init__(self, database: Database, commits: GroupCommit) -> None:
        self._database = database
        self._commits = commits

    async def register(self, worker: str, now: str) -> None:
        def unit() -> Unit[None]:
            yield ("INSERT INTO workers (id, beat, started_at) VALUES (?, 0, ?)", (worker, now))

        await self._commits.run(unit)

    async def beat(self, worker: str) -> bool:
        """False where it was declared dead, and its jobs given to others."""

        def unit() -> Unit[bool]:
            beaten = yield (BEAT, (worker,))
            return beaten.count > 0

        return await self._commits.run(unit)

    async def beats(self) -> dict[str, int]:
        """The beat of each."""
        return {row["id"]: row["beat"] for row in await self._database.read("SELECT id, beat FROM workers")}

    async def dismiss(self, worker: str) -> bool:
        """Take a worker off the list; False where it is not there, or has not given back what it ran."""

        def unit() -> Unit[bool]:
            dismissed = yield (
                "DELETE FROM workers WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM jobs WHERE status = 'running' AND worker = ?)",
                (worker, worker),
            )
            return dismissed.count > 0

        return await self._commits.run(unit)


def is_listed(worker: str) -> Unit[bool]:
    found = yield ("SELECT 1 FROM workers WHERE id = ?", (worker,))
    return bool(found.rows)


def struck_off(worker: str) -> Unit[bool]:
    """Take a worker off the list; False where it is not there."""
    removed = yield ("DELETE FROM workers WHERE id = ?", (worker,))
    return removed.count > 0
