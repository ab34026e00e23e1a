"""The goals, each with how its figure is taken from the results. Why one is missed stands in reasons.toml, by its name."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from . import callbacks, comics, crowds, distributed, events, http, jobs, many_rows, queues, start
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


def _most(name: str, text: str, limit: float, unit: str, take: Take) -> Goal:
    return Goal(name, text, limit, take, at_least=False, unit=unit)


def _crowds() -> list[Goal]:
    def of(row: str, measure: str) -> Take:
        return figure("crowds", row, http.OURS, measure)

    def beside(measure: str) -> Take:
        return ratio("crowds", crowds.WAITING, http.OURS, http.FASTAPI, measure)

    return [
        _most("3 wall", f"{crowds.WAITING}: time ÷ {http.FASTAPI}", 1, "×", beside("seconds")),
        _most("3 memory", f"{crowds.WAITING}: memory of each ÷ {http.FASTAPI}", 1, "×", beside("kB each")),
        _most("3 idle", f"{crowds.KEPT}: memory of each", 8, "kB", of(crowds.KEPT, "kB each")),
        _most("3 tasks", f"{crowds.KEPT}: asyncio tasks of each", 0.01, "tasks", of(crowds.KEPT, "tasks each")),
        _most(
            "6 last", f"{crowds.WATCHED}: an event reaches the last", 250, "ms", of(crowds.WATCHED, "ms to the last")
        ),
        _most("6 memory", f"{crowds.WATCHED}: memory of each", 20, "kB", of(crowds.WATCHED, "kB each")),
    ]


def _others() -> list[Goal]:
    def comic(count: int, limit: float) -> Goal:
        text = f"{count} comics from an upstream that takes 50 ms: times as long as the slowest of single calls"
        return _most(f"4 {count} comics", text, limit, "×", figure("comics", comics.row(count), comics.OURS))

    def begin(row: str, measure: str) -> Take:
        return figure("start", row, http.OURS, measure)

    few, many = (many_rows.beside(size) for size in many_rows.SIZES)
    return [
        comic(500, 4),
        comic(5, 1.1),
        _most("7 start", "Start to the first answer", 1, "s", begin(start.ANSWER, "seconds to the first answer")),
        _most("7 idle", "Memory when idle", 80, "MB", begin(start.ANSWER, "MB when idle")),
        _most("7 help", "`--help`", 0.4, "s", begin(start.HELP, "seconds")),
        *(_most(f"7 {row}", f"`{row}` with 1,000,000 rows: time of a request ÷ that with 1,000", 1.2, "×",
                ratio("many_rows", row, few, many)) for row in many_rows.ROWS),
        *(_most(f"9 callbacks {row}", f"Callbacks, {row}: the p99 of living targets beside five dead ones ÷ that without", 1.2,
                "×", ratio("callbacks", row, callbacks.DEAD, callbacks.ALIVE))
          for row in (callbacks.AT_ONCE, callbacks.STEADILY)),
    ]  # fmt: skip


def _distributed() -> list[Goal]:
    return [
        Goal(f"8 {row}", f"Durable jobs on PostgreSQL, {row}: jobs a second ÷ {distributed.PROCRASTINATE}'s", 1,
             ratio("distributed", row, distributed.OURS, distributed.PROCRASTINATE))
        for row in map(distributed.row, distributed.SIZES)
    ] + [
        _most(f"8 events {name}", f"{events.ROW[0].upper()}{events.ROW[1:]}, {name}: median", 50, "ms",
              figure("events", events.ROW, name))
        for name in events.ENGINES
    ]  # fmt: skip


GOALS = tuple(sorted((*_http(), *_jobs(), *_crowds(), *_distributed(), *_others()), key=lambda goal: goal.name[0]))


def reasons() -> dict[str, dict[str, str]]:
    """`goals`, by name, and `losses`, by row: written by hand."""
    found: dict[str, dict[str, str]] = tomllib.loads((ROOT / "benchmarks" / "reasons.toml").read_text())
    return found
