"""Rounds that take turns, so that a slow minute of the machine hits every contender."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from .figures import Measures
from .machine import Guard

DEPARTS = 0.15  # of the reference's own median: that round was another machine

Turn = Callable[[], dict[str, float]]


class NoFigure(Exception):
    """Why a contender has no figure: shown in its place."""


@dataclass(slots=True)
class _Round:
    pace: float  # of the reference
    outcomes: dict[str, dict[str, float]] = field(default_factory=dict)


def alternate(
    turns: Mapping[str, Turn],
    rounds: int,
    guard: Guard,
    missing: dict[str, str],
    reference: Callable[[], float] = lambda: 1.0,
) -> dict[str, Measures]:
    """`rounds` values of each measure of each contender, from rounds in which the reference kept its own median.

    A contender whose turn raises NoFigure is left out from then on, with the reason in `missing`.
    """
    left, found, started = dict(turns), list[_Round](), 0
    while True:
        while len(found) < rounds:
            found.append(_round(left, started, guard, missing, reference))
            started += 1
        usual = median([one.pace for one in found])
        departed = [one for one in found if abs(one.pace / usual - 1) > DEPARTS]
        turns_again = len(left) * len(departed)
        if not departed or guard.spare < turns_again:
            guard.kept_noisy += turns_again
            return {name: _collected([one.outcomes[name] for one in found]) for name in turns if name in left}
        guard.spare -= turns_again
        guard.thrown_away += turns_again
        found = [one for one in found if one not in departed]


def _round(
    left: dict[str, Turn], number: int, guard: Guard, missing: dict[str, str], reference: Callable[[], float]
) -> _Round:
    one, names = _Round(guard.quiet(reference)), list(left)
    for place in range(len(names)):
        name = names[(number + place) % len(names)]  # no contender always follows the same one
        try:
            one.outcomes[name] = guard.quiet(left[name])
        except NoFigure as error:
            missing[name] = str(error)
            del left[name]
    return one


def _collected(values: list[dict[str, float]]) -> Measures:
    return {measure: [one[measure] for one in values] for measure in values[0]}
