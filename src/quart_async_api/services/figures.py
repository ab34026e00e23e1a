"""The last hour in figures: each process counts its minutes, and writes them to one table that all of them read."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from ..background.loops import LagMeter, Loop
from ..db.connection import Database
from ..db.group_commit import GroupCommit, Unit
from ..jobs.ids import new_id
from ..jobs.run_log import AttemptEnd
from ..jobs.states import JobRecord, Status
from ..jobs.store import JobStore
from ..moments import Clock, timestamp
from ..observability import histograms
from ..observability.metric_names import Figures as Readings
from ..observability.minutes import OTHERS, Minute, Times, dump, load
from ..stored import set_aside
from .census import Census

WRITE_SECONDS = 10.0
TURN_SECONDS = 0.05  # after the end of a minute, until it is written
MOST_NAMES = 50  # of tasks, and of kinds of failures, in what is read
AHEAD_MINUTES = 60  # of a row: more is of a clock that was wrong
_SECONDS = 60


class _Reading(TypedDict, total=False):
    """What was last read of the whole database: see Minute."""

    queued: int
    running: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Hour:
    """The last minutes of all processes, the oldest first, and their sums. `now`: the moment of this reading."""

    now: datetime
    minutes: Mapping[datetime, Minute]
    tasks: Mapping[str, Times]
    failures: Mapping[str, int]


class Figures:
    """Counts what this process does, minute by minute, and reads the minutes of all processes.

    It keeps `kept` minutes; with 0, nothing is counted or written. `requests` are the requests that were answered, by the first
    digit of their status; `connections` are those that are open. Both are read from time to time.
    """

    def __init__(self, database: Database, commits: GroupCommit, kept: int, clock: Clock) -> None:
        self.kept = kept
        self.requests: Sequence[int] = [0] * 10
        self.connections: Callable[[], float] = lambda: 0
        self._database = database
        self._commits = commits
        self._clock = clock
        self._process = new_id()
        self._number = self._minute_now()
        self._minute = Minute(started=[timestamp(clock())])
        self._minutes = {self._number: self._minute}  # of this process, by their number since 1970, in order of use
        self._reading: _Reading = {}
        self._seen = [0] * 10  # of the requests, as they were last read
        self._unwritten = {self._number}
        self._written: tuple[int, str] = (0, "")
        # Not among the loops of the health check: without it, only the charts stand still.
        self.loop = Loop("figures", self.write, every=self._until_next)

    def listen(self, store: JobStore, lag: LagMeter, census: Census) -> None:
        """Count the jobs of this store, the lag of this loop, and what is read of the whole database."""
        store.log.listeners.append(self._attempt_ended)
        store.submission.on_inserted.append(self._submitted)
        store.transitions.on_cancelled.append(self._cancelled)
        lag.listeners.append(self._lagged)
        census.listeners.append(self._surveyed)

    # Counted as it happens

    def _submitted(self, _: JobRecord) -> None:
        self._current().submitted += 1

    def _cancelled(self, _: JobRecord) -> None:
        self._current().cancelled += 1

    def _attempt_ended(self, end: AttemptEnd) -> None:
        minute = self._current()
        if end.outcome == "failed" or end.outcome == "crashed":
            minute.count_failure(end.kind)
        if end.outcome == "failed" or end.outcome == "succeeded":
            times = minute.times(end.task)
            times.failed += end.outcome == "failed"
            for histogram, seconds in ((times.queued, end.queued), (times.ran, end.ran)):
                number = histograms.bucket(seconds)
                histogram[number] = histogram.get(number, 0) + 1
        match end.ended_as:
            case Status.SUCCEEDED:
                minute.succeeded += 1
            case Status.FAILED:
                minute.failed += 1
            case Status.CANCELLED:
                minute.cancelled += 1

    def _lagged(self, seconds: float) -> None:
        lag = int(seconds * 100) / 100  # a loop that is idle has none, so that nothing changes
        if lag > self._minute.lag:
            self._current().lag = max(self._current().lag, lag)

    def _surveyed(self, readings: Readings) -> None:
        jobs, oldest = readings.get("qaa_jobs"), readings.get("qaa_oldest_due_job_age_seconds")
        if not isinstance(jobs, Mapping) or not isinstance(oldest, float):
            self._reading = {}  # the database did not answer
            return
        running = int(sum(count for (_, state), count in jobs.items() if state == "running"))
        self._reading = {"queued": int(sum(jobs.values())) - running, "running": running, "oldest": round(oldest, 1)}
        self._current().add(Minute(**self._reading))

    def _minute_now(self) -> int:
        return int(self._clock().timestamp()) // _SECONDS

    def _current(self) -> Minute:
        if (number := self._minute_now()) != self._number:
            self._sample()
            self._number = number
            # One that was counted before goes on: the clock was set back.
            # A new one begins with what was last read of the database, until it is read again.
            self._minute = self._minutes.pop(number) if number in self._minutes else Minute(**self._reading)
            self._minutes[number] = self._minute
            self._unwritten.add(number)
            if len(self._minutes) > self.kept:
                oldest = next(iter(self._minutes))
                del self._minutes[oldest]
                self._unwritten.discard(oldest)
        return self._minute

    def _sample(self) -> None:
        """Count in the minute what has happened since the last sample."""
        minute, requests = self._minute, list(self.requests)
        for place in range(5):
            minute.requests[place] += requests[place + 1] - self._seen[place + 1]
        self._seen = requests
        minute.connections = max(minute.connections, int(self.connections()))

    # Written and read

    def _until_next(self) -> float:
        left = _SECONDS - self._clock().timestamp() % _SECONDS + TURN_SECONDS
        return min(WRITE_SECONDS, left)

    async def write(self) -> None:
        """Write the minutes that have changed since the last time. Raises DatabaseUnavailable."""
        self._current()
        self._sample()
        current = self._number
        texts = {number: dump(self._minutes[number]) for number in sorted(self._unwritten)}
        rows = [(number, text) for number, text in texts.items() if text != "{}" and (number, text) != self._written]
        if rows:

            def unit() -> Unit[None]:
                for number, text in rows:
                    yield (
                        "INSERT INTO figures (minute, process, figures) VALUES (?, ?, ?) "
                        "ON CONFLICT (minute, process) DO UPDATE SET figures = excluded.figures",
                        (number, self._process, text),
                    )

            await self._commits.run(unit)
        self._written = current, texts.get(current, "")
        self._unwritten -= texts.keys() - {self._number}

    async def close(self) -> None:
        """Write the last figures of this process. Raises DatabaseUnavailable."""
        if self.kept:
            await self.write()

    async def read(self) -> Hour:
        """Return the last minutes, the present one included. Raises DatabaseUnavailable."""
        self._current()
        self._sample()
        last = self._number
        rows = await self._database.rows(
            "SELECT minute, figures FROM figures WHERE minute > ? AND minute <= ? AND process <> ?",
            last - self.kept,
            last,
            self._process,
        )
        minutes = await asyncio.to_thread(_merged, range(last - self.kept + 1, last + 1), rows)
        for number in minutes.keys() & self._minutes.keys():
            minutes[number].add(self._minutes[number])
        return _summed(self._clock(), minutes)

    async def forget(self, _: str) -> None:
        """Delete the minutes that are too old."""
        now = self._minute_now()

        def unit() -> Unit[None]:
            yield ("DELETE FROM figures WHERE minute <= ?", (now - self.kept,))
            yield ("DELETE FROM figures WHERE minute > ?", (now + AHEAD_MINUTES,))

        await self._commits.run(unit)


def _merged(numbers: Sequence[int], rows: Sequence[tuple[Any, ...]]) -> dict[int, Minute]:
    minutes = {number: Minute() for number in numbers}
    for number, text in rows:
        try:
            minutes[number].add(load(text))
        except ValueError:
            set_aside(f"the figures of minute {number}")
    return minutes


def _summed(now: datetime, minutes: Mapping[int, Minute]) -> Hour:
    tasks: dict[str, Times] = {}
    failures: dict[str, int] = {}
    for minute in minutes.values():
        for task, times in minute.tasks.items():
            tasks.setdefault(task, Times()).add(times)
        for kind, count in minute.failures.items():
            failures[kind] = failures.get(kind, 0) + count
    return Hour(
        now,
        {datetime.fromtimestamp(number * _SECONDS, UTC): minute for number, minute in minutes.items()},
        _bounded_tasks(tasks),
        _bounded(failures),
    )


def _bounded_tasks(tasks: Mapping[str, Times]) -> dict[str, Times]:
    """Return the tasks with the most attempts, first, and the sum of the others."""
    ordered = sorted(tasks.items(), key=lambda item: (item[0] == OTHERS, -item[1].attempts, item[0]))
    most = dict(ordered[:MOST_NAMES])
    for _, times in ordered[MOST_NAMES:]:
        most.setdefault(OTHERS, Times()).add(times)
    return most


def _bounded(failures: Mapping[str, int]) -> dict[str, int]:
    ordered = sorted(failures.items(), key=lambda item: (item[0] == OTHERS, -item[1], item[0]))
    most = dict(ordered[:MOST_NAMES])
    if rest := sum(count for _, count in ordered[MOST_NAMES:]):
        most[OTHERS] = most.get(OTHERS, 0) + rest
    return most
