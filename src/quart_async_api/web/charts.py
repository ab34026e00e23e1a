"""Charts over time, as the geometry of an SVG: pure functions. templates/charts.html draws them.

Places are percentages, so that a chart is as wide as its page, and its text as large as other text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from math import ceil, floor, log10

from .durations import brief

_LEAST_HEIGHT = 1.0  # percent, of a bar that is not nothing: one failure among a thousand jobs shows
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60)  # minutes between two labels
_MOST_LABELS = 6
_EDGE = 4.0  # percent from the left, where a label would touch those of the other axis


@dataclass(frozen=True, slots=True)
class Measure:
    """What an axis measures: `shown` writes a value with its unit.

    The axis goes to `least` at least, in whole numbers if `whole`. Its numbers are round in one of `units`: the largest that is
    in the greatest value twice.
    """

    shown: Callable[[float], str]
    least: float = 1.0
    whole: bool = False
    units: tuple[float, ...] = (1.0,)

    def scale(self, greatest: float) -> list[float]:
        """Return three to five round numbers from 0 up to one that is not below `greatest`."""
        greatest = max(greatest, self.least)
        unit = max((unit for unit in self.units if 2 * unit <= greatest), default=self.units[0])
        part = greatest / unit / 4
        power = 10.0 ** floor(log10(part))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= part * 0.9999)
        if self.whole:
            step = max(1.0, float(ceil(step)))
        number = max(2, ceil(greatest / unit / step - 1e-4))
        return [float(f"{step * each * unit:.6g}") for each in range(number + 1)]


@dataclass(frozen=True, slots=True)
class Series:
    """`look` names its colour and pattern. Bars of one chart are stacked in their order, the first at the bottom."""

    name: str
    look: str
    values: Sequence[float]
    is_line: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A grid line at `place` percent from the top."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Label:
    """The time under the chart at `place` percent from the left; `moment` for scripts."""

    place: float
    text: str
    moment: str


@dataclass(frozen=True, slots=True)
class Block:
    look: str
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Shape:
    """All bars of one look as a path, in minutes and thousandths of the height. `is_over`: of minutes that are over."""

    look: str
    is_over: bool
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`series` over `moments`, one a column. `marks` are moments worth a line.

    `begins`: the first minute that is known, where lines begin. `unfinished`: the last minute is still being counted: its bars
    are pale, and no line goes there.
    """

    id: str
    title: str
    note: str
    moments: Sequence[datetime]
    series: Sequence[Series]
    measure: Measure
    marks: Sequence[datetime] = ()
    begins: int = 0
    unfinished: bool = False

    @property
    def step(self) -> float:
        """Width of a column in percent."""
        return 100 / max(1, len(self.moments))

    @property
    def is_empty(self) -> bool:
        return not any(any(each.values) for each in self.series)

    @property
    def top(self) -> float:
        """The value at the upper edge."""
        return self._scale[-1]

    @property
    def _scale(self) -> list[float]:
        bars = [each.values for each in self.series if not each.is_line]
        sums = [sum(values) for values in zip(*bars, strict=True)]
        lines = [value for each in self.series if each.is_line for value in each.values]
        return self.measure.scale(max([*sums, *lines], default=0))

    @property
    def ticks(self) -> list[Tick]:
        values = self._scale
        return [Tick(_rounded(100 - 100 * value / values[-1]), self.measure.shown(value)) for value in values]

    @property
    def labels(self) -> list[Label]:
        every = next((step for step in _TIME_STEPS if len(self.moments) / step <= _MOST_LABELS), _TIME_STEPS[-1])
        return [
            Label(_rounded(at * self.step), f"{moment:%H:%M}", _clock(moment))
            for at, moment in enumerate(self.moments)
            if (moment.hour * 60 + moment.minute) % every == 0 and at * self.step >= _EDGE
        ]

    @property
    def shapes(self) -> list[Shape]:
        """The bars: as few elements as there are looks, since a page has hundreds of bars."""
        bars, top = [each for each in self.series if not each.is_line], self.top
        drawn: dict[tuple[str, bool], list[str]] = {}
        for at in range(len(self.moments)):
            is_over = not self.unfinished or at < len(self.moments) - 1
            for block in _stacked([(each.look, each.values[at]) for each in bars], top):
                bar = f"M{at} {round(block.top * 10)}h.8v{round(block.height * 10)}h-.8z"
                drawn.setdefault((block.look, is_over), []).append(bar)
        return [Shape(look, is_over, "".join(paths)) for (look, is_over), paths in drawn.items()]

    @property
    def said(self) -> list[str]:
        """What each minute has, in words; nothing for a minute that has nothing."""
        return [
            self._said(at) if any(each.values[at] for each in self.series) else "" for at in range(len(self.moments))
        ]

    def _said(self, at: int) -> str:
        if len(self.series) == 1:
            return self.measure.shown(self.series[0].values[at])
        return ", ".join(f"{each.name} {self.measure.shown(each.values[at])}" for each in reversed(self.series))

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The look and the path of each line, in a box of 100 to 100."""
        top, known = self.top, slice(self.begins, len(self.moments) - self.unfinished)
        return [(each.look, path(each.values, top, known)) for each in self.series if each.is_line]

    @property
    def mark_places(self) -> list[float]:
        """Where the marks are, in percent from the left."""
        if not self.moments:
            return []
        span = len(self.moments) * 60
        places = ((mark - self.moments[0]).total_seconds() / span * 100 for mark in self.marks)
        return [_rounded(place) for place in places if 0 <= place <= 100]

    @property
    def start(self) -> str:
        return _clock(self.moments[0]) if self.moments else ""

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The moments that have something, and their values, the newest first: for a table."""
        return [
            (_clock(moment), [self.measure.shown(each.values[at]) for each in self.series])
            for at, moment in reversed(list(enumerate(self.moments)))
            if any(each.values[at] for each in self.series)
        ]


def path(values: Sequence[float], top: float, known: slice = slice(None)) -> str:
    """Return the path of a line through the middles of the columns that are known, in a box of 100 to 100."""
    width = 100 / max(1, len(values))
    points = [f"{(at + 0.5) * width:.4g} {100 - 100 * value / top:.4g}" for at, value in enumerate(values)]
    return "M" + "L".join(points[known]) if points[known] else ""


def _stacked(parts: Sequence[tuple[str, float]], top: float) -> list[Block]:
    heights = [max(_LEAST_HEIGHT, 100 * value / top) if value else 0.0 for _, value in parts]
    if (total := sum(heights)) > 100:
        heights = [height * 100 / total for height in heights]
    ends = accumulate(heights)
    return [
        Block(look, _rounded(100 - end), _rounded(height))
        for (look, _), height, end in zip(parts, heights, ends, strict=True)
        if height
    ]


def count(value: float) -> str:
    """`1,234`, and a digit of a fraction: `0.5`."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"


COUNT = Measure(count, 2, whole=True)
RATE = Measure(count)
DURATION = Measure(brief, 0.1, units=(1, 60, 3600))


def _rounded(value: float) -> float:
    return round(value, 2)
