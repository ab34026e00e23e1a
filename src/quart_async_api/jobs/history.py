"""The stored events of jobs, which event streams, WebSockets and watchers read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..db.connection import Database
from ..errors import Unreadable
from ..stored import stored

PAGE = 1000  # events read at once


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Something that happened to a job. `number` counts from 1 in each job, `position` over all of them. `text` is JSON."""

    position: int
    job_id: str
    number: int
    name: str
    text: str
    owner: str | None = None  # of the job; only when reading events of all jobs

    @property
    def data(self) -> dict[str, Any]:
        """The decoded text; empty if this version cannot read it, so that later events still arrive."""
        try:
            data: dict[str, Any] = stored(self.text, f"event {self.number} of job {self.job_id}", dict)
        except Unreadable:
            return {}
        return data


class History:
    """The events of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(self, job_id: str, after: int, limit: int = PAGE) -> list[Event]:
        """Return the events of a job after number `after`."""
        rows = await self._database.read(
            "SELECT id, job_id, number, name, data FROM job_events WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
            job_id,
            after,
            limit,
        )
        return [self._as_event(row) for row in rows]

    async def events_after(self, position: int, limit: int = PAGE) -> list[Event]:
        """Return the events of all jobs after `position`, in commit order."""
        rows = await self._database.read(
            "SELECT e.id, e.job_id, e.number, e.name, e.data, j.owner FROM job_events e LEFT JOIN jobs j ON j.id = e.job_id "
            "WHERE e.id > ? ORDER BY e.id LIMIT ?",
            position,
            limit,
        )
        return [self._as_event(row) for row in rows]

    async def position(self, job_id: str, number: int) -> int | None:
        """Return the position of an event of a job among the events of all jobs, or None if it is not there."""
        rows = await self._database.read("SELECT id FROM job_events WHERE job_id = ? AND number = ?", job_id, number)
        return rows[0]["id"] if rows else None

    async def last_position(self) -> int:
        rows = await self._database.read("SELECT MAX(id) AS last FROM job_events")
        return rows[0]["last"] or 0

    @staticmethod
    def _as_event(row: Mapping[str, Any]) -> Event:
        return Event(row["id"], row["job_id"], row["number"], row["name"], row["data"], row.get("owner"))
