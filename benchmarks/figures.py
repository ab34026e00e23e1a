"""What a part of the benchmarks has measured: kept as JSON, from which the page, the plots and the goals are made."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

from .machine import ROOT, Guard, description

RESULTS = ROOT / "build" / "bench"
KEPT = ROOT / "benchmarks" / "results"

Measures = dict[str, list[float]]  # what was measured, with its unit → a value for each round


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        return cls(median(values), min(values), max(values))


@dataclass(slots=True)
class Part:
    """One part: in each row some contenders, each with the same measures; the first contender is ours."""

    name: str
    title: str
    how: str
    base: str = ""  # the contender that the others are divided by
    rows: dict[str, dict[str, Measures]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)  # of each contender
    limits: list[str] = field(default_factory=list)  # contenders that do less than the task: nobody's peers
    missing: dict[str, str] = field(default_factory=dict)  # contender → why it has no figures
    pictures: dict[str, str] = field(default_factory=dict)  # title → file beside the results
    thrown_away: int = 0
    kept_noisy: int = 0
    command: str = ""
    seconds: int = 0  # that it took
    at: str = ""  # when it ended
    machine: dict[str, str] = field(default_factory=dict)

    def spread(self, row: str, contender: str, measure: str | None = None) -> Spread | None:
        """Of the named measure, or of the first."""
        found = self.rows.get(row, {}).get(contender, {})
        values = found.get(measure) if measure else next(iter(found.values()), None)
        return Spread.of(values) if values else None

    def ratio(self, row: str, ours: str, theirs: str, measure: str | None = None) -> Spread | None:
        """`ours` ÷ `theirs`, round by round: both have had the same minute of the machine."""
        pair = [self.rows.get(row, {}).get(name, {}) for name in (ours, theirs)]
        if not all(pair):
            return None
        name = measure or next(iter(pair[0]))
        both = [one.get(name, []) for one in pair]
        return Spread.of([a / b for a, b in zip(*both, strict=False) if b]) if all(both) and any(both[1]) else None

    def finish(self, guard: Guard) -> Self:
        self.thrown_away, self.kept_noisy, self.machine = guard.thrown_away, guard.kept_noisy, description()
        self.at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return self

    def write(self, folder: Path = RESULTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rounded = asdict(self)
        rounded["rows"] = {
            row: {
                name: {unit: [float(f"{value:.5g}") for value in values] for unit, values in measures.items()}
                for name, measures in contenders.items()
            }
            for row, contenders in self.rows.items()
        }
        text = json.dumps(rounded, indent=1).replace(f"{ROOT}/", "")  # in what a peer said that did not start
        (folder / f"{self.name}.json").write_text(f"{text}\n")


def read(folder: Path) -> dict[str, Part]:
    """The parts whose results are in `folder`, by name."""
    documents: list[dict[str, Any]] = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    parts = [Part(**document) for document in documents if "rows" in document]
    return {part.name: part for part in parts}
