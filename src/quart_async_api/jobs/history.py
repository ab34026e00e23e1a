"""The stored events of jobs, which event streams, WebSockets and watchers read.

On PostgreSQL, ids are given out before the commit, so a reader by id would pass over events that are committed late. There,
`txid` is the transaction that wrote an event. A row of an older version has 0, and so has each row on SQLite, where ids are in
the order of the commits.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ..db.connection import Database
from ..errors import Unreadable
from ..stored import stored

PAGE = 1000  # events read at once

Place = tuple[int, int]  # txid and id: the order of the events of all jobs, the same for every reader
Position = TypeVar("Position")
_LAST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Something that happened to a job. `number` counts from 1 in each job. `text` is JSON."""

    place: Place
    job_id: str
    number: int
    name: str
    text: str
    owner: str | None = None  # of the job; only when reading events of all jobs

    @property
    def data(self) -> dict[str, Any]:
        """The decoded text; empty if this version cannot read it, so that later events still arrive."""
        return _data(self.text, self.number, self.job_id)


class Line(NamedTuple):
    """An event with the time at which it was stored."""

    number: int
    name: str
    data: dict[str, Any]
    at: str


class NewEvents(ABC, Generic[Position]):
    """A reader that has seen the events until `position`."""

    position: Position
    is_behind = False  # there are events that it may not show yet

    def __init__(self, database: Database) -> None:
        self._database = database

    @abstractmethod
    async def now(self) -> Position:
        """Return a position after all events that are committed."""

    @abstractmethod
    async def read(self) -> tuple[list[Event], bool]:
        """Return the next events, and whether there are more. Each is returned once."""


class History:
    """The events of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(self, job_id: str, after: int, limit: int = PAGE) -> list[Event]:
        """Return the events of a job after number `after`."""
        rows = await self._database.rows(
            f"SELECT {_COLUMNS} FROM job_events WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
            job_id,
            after,
            limit,
        )
        return _events(rows)

    async def lines(self, job_id: str, after: int, limit: int = PAGE) -> list[Line]:
        """Return the same events, with their times."""
        rows = await self._database.rows(
            "SELECT number, name, data, created_at FROM job_events WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
            job_id,
            after,
            limit,
        )
        return [Line(number, name, _data(text, number, job_id), at) for number, name, text, at in rows]

    def new(self) -> NewEvents[Any]:
        """Return a reader of new events as they are committed, whatever other transactions are open.

        Those of one job come by their numbers, those of several jobs in any order.
        """
        return _ById(self._database) if self._database.url.file is not None else _BySnapshot(self._database)

    def new_in_order(self) -> NewEvents[Place]:
        """Return a reader of new events by their place."""
        return _ByPlace(self._database, self)

    async def events_after(self, place: Place, limit: int = PAGE) -> list[Event]:
        """Return the events of all jobs after `place`, in order.

        On PostgreSQL, an event waits for all transactions that began to write before it: one of them may bring an earlier one.
        """
        txid, last = place
        found = []
        if txid == 0:
            order = "" if self._database.url.file is not None else "e.txid = 0 AND "
            found = _events(
                await self._database.rows(f"{_OF_ALL} WHERE {order}e.id > ? ORDER BY e.id LIMIT ?", last, limit)
            )
        if self._database.url.file is None and len(found) < limit:
            after = place if txid else (0, _LAST_ID)
            found += _events(await self._database.rows(_IN_ORDER, *after, limit - len(found)))
        return found

    async def place(self, job_id: str, number: int) -> Place | None:
        """Return the place of an event of a job among the events of all jobs, or None if it is not there."""
        rows = await self._database.rows(
            "SELECT txid, id FROM job_events WHERE job_id = ? AND number = ?", job_id, number
        )
        return rows[0] if rows else None

    async def forget_transactions(self) -> int:
        """Correct events that were restored from a dump of another server, whose transactions had other numbers.

        Returns their number. Rows that are visible, and written by a transaction that has not begun, are such rows.
        """
        if self._database.url.file is not None or not await self._database.rows(f"{_FROM_ELSEWHERE} LIMIT 1"):
            return 0
        async with self._database.transaction() as client:
            corrected, _ = await client.execute_query(f"UPDATE job_events SET txid = 0 WHERE id IN ({_FROM_ELSEWHERE})")
        return corrected

    async def last_place(self) -> Place:
        """Return a place after all events that `events_after` shows now."""
        if self._database.url.file is not None:
            return 0, await _last_id(self._database)
        rows = await self._database.rows(f"SELECT {_OLDEST_OPEN} - 1")
        return rows[0][0], _LAST_ID


_COLUMNS = "txid, id, job_id, number, name, data"
_OLDEST_OPEN = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_FROM_ELSEWHERE = (
    "SELECT id FROM job_events WHERE txid > 0 AND txid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)
_OF_ALL = (
    "SELECT e.txid, e.id, e.job_id, e.number, e.name, e.data, j.owner "
    "FROM job_events e LEFT JOIN jobs j ON j.id = e.job_id"
)
_IN_ORDER = (
    f"{_OF_ALL} WHERE e.txid > 0 AND e.txid < {_OLDEST_OPEN} AND (e.txid, e.id) > (?, ?) ORDER BY e.txid, e.id LIMIT ?"
)


def _data(text: str, number: int, job_id: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = stored(text, f"event {number} of job {job_id}", dict)
    except Unreadable:
        return {}
    return data


def _events(rows: Sequence[Sequence[Any]]) -> list[Event]:
    return [Event((txid, row_id), *others) for txid, row_id, *others in rows]


async def _last_id(database: Database) -> int:
    return (await database.rows("SELECT MAX(id) FROM job_events"))[0][0] or 0


class _ById(NewEvents[int]):
    """On SQLite."""

    position = 0

    async def now(self) -> int:
        return await _last_id(self._database)

    async def read(self) -> tuple[list[Event], bool]:
        rows = await self._database.rows(
            f"SELECT {_COLUMNS} FROM job_events WHERE id > ? ORDER BY id LIMIT ?", self.position, PAGE
        )
        events = _events(rows)
        if events:
            _, self.position = events[-1].place
        return events, len(events) == PAGE


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that is visible in `snapshot`; and of what is visible in `until`, all up to `place`."""

    snapshot: str
    until: str | None = None
    place: Place = (0, 0)


class _BySnapshot(NewEvents[_Seen]):
    """New since a snapshot is what transactions wrote that it shows as open, or as not begun, and that have ended now.

    A page ends at a place; the next one is read as of the same snapshots.
    """

    position = _Seen("1:1:")

    async def now(self) -> _Seen:
        return _Seen((await self._database.rows("SELECT pg_current_snapshot()::text"))[0][0])

    async def read(self) -> tuple[list[Event], bool]:
        seen = self.position
        _, first_unbegun, opened = seen.snapshot.split(":")
        was_open = [int(txid) for txid in opened.split(",") if txid]
        rows = await self._database.rows(
            _NEW, seen.until, was_open, *seen.place, PAGE, int(first_unbegun), *seen.place, PAGE, PAGE
        )
        until = rows[0][0]
        events = _events([row[1:] for row in rows if row[1] is not None])
        more = len(events) == PAGE
        self.position = _Seen(seen.snapshot, until, events[-1].place) if more else _Seen(until)
        return sorted(events, key=lambda event: event.number), more


_NEW_OF = (
    f"(SELECT {_COLUMNS} FROM job_events WHERE txid > 0 AND txid {{}} AND (txid, id) > (?, ?) "
    "AND pg_visible_in_snapshot(txid::text::xid8, until.snapshot) ORDER BY txid, id LIMIT ?)"
)
_NEW = (
    "SELECT until.snapshot::text, new.* FROM (SELECT COALESCE(?::pg_snapshot, pg_current_snapshot()) AS snapshot) AS until "
    f"LEFT JOIN LATERAL (SELECT * FROM ({_NEW_OF.format('= ANY(?::bigint[])')} UNION ALL {_NEW_OF.format('>= ?')}) AS found "
    "ORDER BY txid, id LIMIT ?) AS new ON true"
)


class _ByPlace(NewEvents[Place]):
    position = (0, 0)

    def __init__(self, database: Database, history: History) -> None:
        super().__init__(database)
        self._history = history

    async def now(self) -> Place:
        return await self._history.last_place()

    async def read(self) -> tuple[list[Event], bool]:
        events = await self._history.events_after(self.position)
        if events:
            self.position = events[-1].place
        if self._database.url.file is None:
            behind = await self._database.rows(
                f"SELECT 1 FROM job_events WHERE txid > 0 AND txid >= {_OLDEST_OPEN} LIMIT 1"
            )
            self.is_behind = bool(behind)
        return events, len(events) == PAGE
