"""The goals, each with how its figure is taken from the results. Why one is missed stands in reasons.toml, by its name."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from . import http, jobs, queues
from .figures import Part, Spread
from .machine import ROOT

Take = Callable[[Mapping[str, Part]], Spread | None]


@dataclass(frozen=True, slots=True)
class Goal:
    name: str
    text: str
    limit: float
    take: Take
    at_least: bool = True
    unit: str = "×"

    def met(self, found: Spread) -> bool:
        return found.median >= self.limit if self.at_least else found.median <= self.limit

    @property
    def bound(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"


def ratio(part: str, row: str, ours: str, theirs: str, measure: str | None = None) -> Take:
    return lambda parts: parts[part].ratio(row, ours, theirs, measure) if part in parts else None


def figure(part: str, row: str, contender: str, measure: str | None = None) -> Take:
    return lambda parts: parts[part].spread(row, contender, measure) if part in parts else None


def _http() -> list[Goal]:
    rows = [
        (http.USER, http.FASTAPI, 1.6),
        (http.USERS, http.FASTAPI, 1.5),
        (http.USER, http.BLACKSHEEP, 1.1),
        (http.USERS, http.BLACKSHEEP, 1.1),
        (http.ADD, http.FASTAPI, 1.0),
        (http.CONSTANT, http.FASTAPI, 0.85),
        (http.CONSTANT, http.BARE_HYPERCORN, 1.1),
    ]
    goals = [
        Goal(f"1 {row} ÷ {peer}", f"On Hypercorn: `{row}` ÷ {peer}", limit, ratio("http", row, http.OURS, peer))
        for row, peer, limit in rows
    ]
    goals += [
        Goal(
            f"1 logged {row} ÷ {peer}",
            f"The same with log lines at info to a file and rate limits on: `{row}` ÷ {peer}",
            round(0.75 * limit, 3),
            ratio("http", row, http.LOGGED, peer),
        )
        for row, peer, limit in rows
    ]
    goals += [
        Goal(f"2 {row} {ours}", f"{ours[5:].capitalize()}: `{row}` ÷ {http.BLACKSHEEP}", 1.0,
             ratio("http", row, ours, http.BLACKSHEEP))
        for ours in (http.OURS_UVICORN, http.OURS_GRANIAN)
        for row in (http.USER, http.USERS)
    ]  # fmt: skip
    return goals


def _jobs() -> list[Goal]:
    def fastest_peer(parts: Mapping[str, Part]) -> Spread | None:
        part = parts.get("jobs")
        if part is None:
            return None
        rows = [part.rows.get(row, {}) for row in jobs.CALLERS]
        ours = max((row[queues.OURS]["jobs/s"] for row in rows if queues.OURS in row), key=median, default=None)
        peers = [
            found["jobs/s"] for row in rows for name, found in row.items() if name not in (queues.OURS, queues.BARE)
        ]
        if ours is None or not peers:
            return None
        return Spread.of([a / b for a, b in zip(ours, max(peers, key=median), strict=False)])

    return [
        Goal("5 Python", "Durable jobs on SQLite through Python: jobs a second ÷ the fastest peer's, each with its best number "
             "of callers", 2, fastest_peer),
        Goal("5 HTTP", "Through HTTP: jobs a second ÷ a plain `POST` with one insert", 0.7,
             ratio("jobs", jobs.HTTP, jobs.SUBMIT, jobs.ADD)),
        *(Goal(f"5 start {size}", f"Submit to start with {size:,} queued, median", 5,
               figure("jobs", jobs.QUEUED, jobs.beside(size)), at_least=False, unit="ms") for size in jobs.SIZES[1:]),
    ]  # fmt: skip


GOALS = (*_http(), *_jobs())


def reasons() -> dict[str, dict[str, str]]:
    """`goals`, by name, and `losses`, by row: written by hand."""
    found: dict[str, dict[str, str]] = tomllib.loads((ROOT / "benchmarks" / "reasons.toml").read_text())
    return found
