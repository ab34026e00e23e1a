"""Runs the units of a batch on PostgreSQL in one transaction, in as few round trips as they need.

Units run one after the other. Parts of a unit that may run in step (InStep) send their next statements together.

All batches take their locks in one order, so that they do not wait for each other in a circle: first the rows of units, then
keys (Hold) in the order of their numbers, then the rows of sums, then what comes last. A unit that waits for a key goes on when
the rest of the batch has run.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import add
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from .group_commit import AtEnd, Hold, InStep, Last, Late, Result, Statement, Sum, Try, Unit, Unprepared, in_step, one

Connection = psycopg.AsyncConnection[dict[str, Any]]

# Another transaction was in the way: the same units may succeed when they run again.
CROSSED = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


async def run(connection: Connection, makes: Sequence[Callable[[], Unit[Any]]], *, within: bool = False) -> list[Any]:
    """Run the units that `makes` return, and commit. Return their outcomes.

    `within`: at the end of a transaction that others have begun, and end.
    """
    try:
        async with connection.pipeline() as pipeline:
            batch = _Batch(connection, pipeline, within)
            outcomes = [await batch.run(make()) for make in makes]
            await batch.commit()
    except BaseException:
        if not within and connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.rollback()
        raise
    return [outcome for [outcome] in outcomes]


@dataclass(slots=True, eq=False)
class _Run:
    """A unit under way, or a part of one."""

    unit: Unit[Any]
    outcomes: list[Any]  # of the parts that run in step with it, and itself
    place: int = 0
    within: "_Run | None" = None
    parts: int = 0  # that have not ended
    holds: list[str] = field(default_factory=list)

    def has(self, key: str) -> bool:
        return key in self.holds or (self.within is not None and self.within.has(key))


class _Batch:
    def __init__(self, connection: Connection, pipeline: psycopg.AsyncPipeline, within: bool) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._due: list[tuple[_Run, Statement]] = []  # what each goes on with
        self._holds: list[tuple[_Run, Statement]] = []  # of those that wait for a key, until all others have run
        self._waiting: dict[str, deque[_Run]] = {}  # for a key that another part holds
        self._has_begun = within
        self._end_with: list[Statement] = [] if within else [("COMMIT", ())]
        self._sums: dict[tuple[str, str], list[int]] = {}
        self._late: list[Late] = []
        self._last: list[tuple[str, _Run]] = []  # by their keys
        self._outcomes: list[list[Any]] = []
        self._ends: list[AtEnd] = []

    async def run(self, unit: Unit[Any]) -> list[Any]:
        """Run a unit to its end, or to where it waits for a key or the sums. Return a list for its outcome."""
        outcomes: list[Any] = [_Batch]
        self._outcomes.append(outcomes)
        self._go_on(_Run(unit, outcomes), None)
        await self._send()
        return outcomes

    async def _send(self) -> None:
        while due := self._due:
            self._due = []
            first = [] if self._has_begun else [("BEGIN", ())]
            self._has_begun = True
            results = await self._execute([*first, *(statement for _, statement in due)])
            for (part, _), result in zip(due, results[len(first) :], strict=True):
                self._go_on(part, result)

    async def commit(self) -> None:
        while self._holds:
            self._due, self._holds = sorted(self._holds, key=lambda hold: hold[1]), []
            await self._send()
        # What many transactions change comes last, so that it is locked for a moment, and in one order, so that they do not
        # wait for each other.
        holds = sorted((hold.key, hold.shared) for end in self._ends if (hold := end.hold) is not None)
        last: list[Statement] = [_lock(Hold(key, shared)) for key, shared in sorted(dict(reversed(holds)).items())]
        last += [(sql, (row, *self._sums[sql, row])) for sql, row in sorted(self._sums)]
        self._sums = {}
        if self._ends or self._last:
            await self.run(in_step(one(statement) for statement in last))
            await self._run_last()
            await self.run(in_step(end.check() for end in self._ends))
            last = []
        else:
            last += [(late.sql, late.values) for late in sorted(self._late, key=_place)]
        if self._sums or any(outcome is _Batch for [outcome] in self._outcomes):
            raise RuntimeError("parts of a unit wait for each other, or add to a sum too late")
        if last and not self._has_begun:
            last.insert(0, ("BEGIN", ()))
        if last or self._has_begun:
            await self._execute([*last, *self._end_with])

    async def _run_last(self) -> None:
        while self._late or self._last:
            waiting = [(key, "", part, Result(1, [])) for key, part in self._last]
            late = [(*_place(late), _Run(one((late.sql, late.values)), [None]), None) for late in self._late]
            self._last, self._late = [], []
            for _, _, part, result in sorted([*waiting, *late], key=lambda each: each[:2]):
                self._go_on(part, result)
            await self._send()

    async def _execute(self, statements: Sequence[Statement]) -> list[Result]:
        cursors = [self._connection.cursor() for _ in statements]
        for cursor, statement in zip(cursors, statements, strict=True):
            sql, values = statement
            prepare = False if isinstance(statement, Unprepared) else None  # None: once it has come a few times
            await cursor.execute(_translated(sql), values, prepare=prepare)
        await self._pipeline.sync()
        return [Result(cursor.rowcount, await cursor.fetchall() if cursor.description else []) for cursor in cursors]

    def _go_on(self, part: _Run, result: Result | None) -> None:
        """Send a result to a part, and note what it does next."""
        while True:
            try:
                # To None, only a new one goes on.
                step = next(part.unit) if result is None else part.unit.send(result)
            except StopIteration as end:
                self._end(part, end.value)
                return
            if isinstance(step, InStep):
                if step.units:
                    self._begin_parts(part, step.units)
                    return
                result = Result(0, [])
            elif isinstance(step, Hold):
                if not part.has(step.key):
                    self._hold(part, step)
                    return
                result = Result(1, [])
            elif isinstance(step, AtEnd):
                self._ends.append(step)
                result = Result(0, [])
            elif isinstance(step, Sum):
                row, *numbers = step.values
                so_far = self._sums.setdefault((step.sql, row), [0] * len(numbers))
                so_far[:] = map(add, so_far, numbers)
                result = Result(1, [])
            elif isinstance(step, Late):
                self._late.append(step)
                result = Result(1, [])
            elif isinstance(step, Last):
                self._last.append((step.key, part))
                return
            elif isinstance(step, Try):
                self._due.append((part, ("SELECT 1 WHERE pg_try_advisory_xact_lock(?)", (number(step.key),))))
                return
            else:
                self._due.append((part, step))
                return

    def _begin_parts(self, whole: _Run, units: Sequence[Unit[Any]]) -> None:
        outcomes: list[Any] = [None] * len(units)
        whole.parts = len(units)
        for place, unit in enumerate(units):
            self._go_on(_Run(unit, outcomes, place, whole), None)

    def _hold(self, part: _Run, hold: Hold) -> None:
        if hold.key in self._waiting:  # PostgreSQL would give it to any part of this transaction
            self._waiting[hold.key].append(part)
            return
        self._waiting[hold.key] = deque()
        part.holds.append(hold.key)
        self._holds.append((part, _lock(hold)))

    def _end(self, part: _Run, outcome: Any) -> None:
        part.outcomes[part.place] = outcome
        for key in part.holds:
            following = self._waiting[key]
            if not following:
                del self._waiting[key]
                continue
            next_part = following.popleft()
            next_part.holds.append(key)
            self._go_on(next_part, Result(1, []))
        whole = part.within
        if whole is not None:
            whole.parts -= 1
            if not whole.parts:
                self._go_on(whole, Result(len(part.outcomes), part.outcomes))


def _place(late: Late) -> tuple[str, str]:
    """Return the key of a statement, and what sets those of one key in order."""
    return late.key, late.sql


def _lock(hold: Hold) -> Statement:
    lock = "pg_advisory_xact_lock_shared" if hold.shared else "pg_advisory_xact_lock"
    return f"SELECT {lock}(?)", (number(hold.key),)


@lru_cache(maxsize=1000)
def _translated(sql: str) -> str:
    return sql.replace("?", "%s").replace("/*", "").replace("*/", "")


def number(key: str) -> int:
    """Return the number of the advisory lock of `key`."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)
