"""What one minute has seen: counters and histograms, of one process or of all of them added up."""

from dataclasses import dataclass, field, fields
from typing import Annotated

from pydantic import Field, TypeAdapter

from . import histograms
from .histograms import Histogram

MOST_TASKS = 30  # by name in a minute of a process; the rest is together
MOST_KINDS = 20  # of failures
OTHERS = "(others)"
_LONGEST_KIND = 100  # characters
_GREATEST = frozenset({"queued", "running", "oldest", "lag"})  # of the database or of any process: not added up


@dataclass(slots=True)
class Times:
    """The attempts of a task that ended: how many `failed`, and how long all of them were queued and ran."""

    failed: int = 0
    queued: Histogram = field(default_factory=dict)
    ran: Histogram = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        return sum(self.ran.values())

    def add(self, other: "Times") -> None:
        self.failed += other.failed
        histograms.add(self.queued, other.queued)
        histograms.add(self.ran, other.ran)


@dataclass(slots=True)
class Minute:
    """`succeeded`, `failed`, `cancelled`: jobs that ended. `requests`: by the first digit of their status, from 1 to 5.

    `queued`, `running`, `oldest`: jobs of the whole database, and seconds for which the oldest due job waited: the greatest
    reading. `connections`: the greatest reading of each process, added up. `lag`: of the event loop, in seconds, the greatest.
    `failures`: failed attempts by kind. `started`: when processes started.
    """

    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    queued: int = 0
    running: int = 0
    oldest: float = 0.0
    requests: Annotated[list[int], Field(min_length=5, max_length=5)] = field(default_factory=lambda: [0] * 5)
    connections: int = 0
    lag: float = 0.0
    tasks: dict[str, Times] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    def times(self, task: str) -> Times:
        """Return the times of a task, or of all others where there are MOST_TASKS already."""
        found = self.tasks.get(task)
        if found is None:
            name = task if len(self.tasks) < MOST_TASKS else OTHERS
            found = self.tasks.setdefault(name, Times())
        return found

    def count_failure(self, kind: str) -> None:
        name = kind[:_LONGEST_KIND] or OTHERS
        if name not in self.failures and len(self.failures) >= MOST_KINDS:
            name = OTHERS
        self.failures[name] = self.failures.get(name, 0) + 1

    def add(self, other: "Minute") -> None:
        """Add the same minute of another process."""
        for name in _NUMBERS:
            mine, its = getattr(self, name), getattr(other, name)
            setattr(self, name, max(mine, its) if name in _GREATEST else mine + its)
        self.requests = [mine + its for mine, its in zip(self.requests, other.requests, strict=True)]
        for task, times in other.tasks.items():
            self.tasks.setdefault(task, Times()).add(times)
        for kind, count in other.failures.items():
            self.failures[kind] = self.failures.get(kind, 0) + count
        self.started = sorted((*self.started, *other.started))


_NUMBERS = tuple(each.name for each in fields(Minute) if each.type in (int, float))
_JSON = TypeAdapter(Minute)


def dump(minute: Minute) -> str:
    """Return a minute as JSON, without what is nothing."""
    return _JSON.dump_json(minute, exclude_defaults=True).decode()


def load(text: str) -> Minute:
    """Return the minute of a JSON text. Members that a newer version has added are left out. Raises ValueError."""
    return _JSON.validate_json(text)
