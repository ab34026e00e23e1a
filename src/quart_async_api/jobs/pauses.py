"""Paused tasks: their jobs stay queued, and no process claims them.

Each process keeps the names of the paused tasks, and reads them anew every LOOK_SECONDS: they decide which jobs it claims. The
ready jobs of a paused task are then moved to the stage `paused`, where they have no turn and no ticket, and back after its end.
Any process moves them, in batches.

The row of a task is locked last in a transaction (Last), or left if it is locked: a transaction that waits for it has all that
others may wait for.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

from ..db.connection import Database
from ..db.group_commit import LAST_OF_ALL, Last, Rows, Unit
from ..moments import later
from . import sql
from .queue import SKEW_SECONDS
from .units import Changes, JobUnits

LOOK_SECONDS = 0.5
LATE_SECONDS = 60.0  # a missed tick of a schedule still fires for this long
BATCH = 200  # jobs in one unit, to keep its transaction short
UNITS = 20  # of one task in one look

# `unsettled`: jobs are in the wrong stage.
_LOOK = (
    "SELECT name, paused_at, CASE WHEN paused_at IS NULL "
    "THEN EXISTS (SELECT 1 FROM jobs WHERE stage = 'paused' AND task = name) "
    "ELSE EXISTS (SELECT 1 FROM jobs WHERE stage = 'ready' AND task = name) END AS unsettled "
    "FROM task_states WHERE paused_at IS NOT NULL OR resumed_at IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the database has about a task, as timestamps. `last_run_at`: when its schedule or an operator last started it."""

    paused_at: str | None = None
    resumed_at: str | None = None
    last_run_at: str | None = None

    def was_paused_at(self, tick: str) -> bool:
        """Return whether a tick of the schedule fell into a pause that lasts, or has ended since."""
        return self.paused_at is not None or (self.resumed_at is not None and tick <= self.resumed_at)

    def may_fire(self, tick: str) -> bool:
        """Return whether a tick that has just passed may fire. Ignores the end of a pause by a clock that was far ahead."""
        is_possible = (self.resumed_at or "") <= later(tick, LATE_SECONDS + SKEW_SECONDS)
        return self.paused_at is None and not (is_possible and self.was_paused_at(tick))


class Pauses:
    """The paused tasks of one database, as this process knows them. Times are arguments (timestamps)."""

    def __init__(self, database: Database, units: JobUnits) -> None:
        self._database = database
        self._units = units
        self._reading = asyncio.Lock()
        self.names: frozenset[str] = frozenset()

    async def states(self) -> dict[str, TaskState]:
        """Return the states of all tasks that have one."""
        rows = await self._database.rows("SELECT name, paused_at, resumed_at, last_run_at FROM task_states")
        return {name: TaskState(*values) for name, *values in rows}

    async def pause(self, task: str, now: str) -> None:
        """Pause a task. If it is paused already, nothing changes."""

        def unit(changes: Changes) -> Unit[None]:
            yield Last(task)
            yield (
                "INSERT INTO task_states (name, paused_at) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
                "SET paused_at = COALESCE(task_states.paused_at, excluded.paused_at), resumed_at = NULL",
                (task, now),
            )

        await self._units.run(unit)
        await self.refresh()

    async def resume(self, task: str, now: str) -> None:
        """End the pause of a task, if there is one."""

        def unit(changes: Changes) -> Unit[None]:
            yield Last(task)
            yield (
                "UPDATE task_states SET paused_at = NULL, resumed_at = ? WHERE name = ? AND paused_at IS NOT NULL",
                (now, task),
            )

        await self._units.run(unit)
        await self.refresh()

    async def started(self, task: str, now: str) -> None:
        """Store when an operator last started a task."""
        await self._units.run(lambda changes: started(task, now))

    async def refresh(self) -> Rows:
        """Read the names of the paused tasks. Return the rows."""
        async with self._reading:  # else an older answer may come last
            rows = await self._database.read(_LOOK)
            self.names = frozenset(row["name"] for row in rows if row["paused_at"] is not None)
            return rows

    async def look(self) -> None:
        """Read the names, and move jobs that are in the wrong stage."""
        for row in await self.refresh():
            if row["unsettled"]:
                for _ in range(UNITS):
                    if await self._units.run(partial(_settle, row["name"])) < BATCH:
                        break


def started(task: str, now: str) -> Unit[None]:
    """Store when the schedule or an operator last started a task."""
    yield Last(task)
    yield (
        "INSERT INTO task_states (name, last_run_at) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET last_run_at = excluded.last_run_at",
        (task, now),
    )


def state_of(task: str) -> Unit[TaskState]:
    """Return the state of a task, inside a transaction."""
    found = yield ("SELECT paused_at, resumed_at, last_run_at FROM task_states WHERE name = ?", (task,))
    return TaskState(**found.rows[0]) if found.rows else TaskState()


def _settle(task: str, changes: Changes) -> Unit[int]:
    """Move at most BATCH jobs of a task into the stage of its state. Return their number."""
    yield LAST_OF_ALL
    # One process at a time, and none with an old state.
    state = yield ("SELECT paused_at FROM task_states WHERE name = ? /*FOR UPDATE SKIP LOCKED*/", (task,))
    if not state.rows:
        return 0
    is_paused = state.rows[0]["paused_at"] is not None
    found = yield (
        "SELECT id FROM jobs WHERE stage = 'ready' AND task = ? ORDER BY urgency, turn, id LIMIT ? /*FOR UPDATE SKIP LOCKED*/"
        if is_paused
        else "SELECT id FROM jobs WHERE stage = 'paused' AND task = ? ORDER BY id LIMIT ? /*FOR UPDATE SKIP LOCKED*/",
        (task, BATCH),
    )
    ids = [row["id"] for row in found.rows]
    if not ids:
        return 0
    marks = ", ".join("?" for _ in ids)
    if is_paused:
        yield (f"UPDATE jobs SET stage = 'paused', turn = NULL WHERE id IN ({marks})", ids)
        yield from changes.paused(ids)
    else:
        # As if its time had just come: they line up anew, in their slots too.
        moved = yield (f"UPDATE jobs SET stage = 'delayed' WHERE id IN ({marks}) RETURNING {sql.ALL}", ids)
        for job in sql.records(moved.rows):
            yield from changes.queued(job)
    return len(ids)
