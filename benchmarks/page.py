"""The page of results, from their JSON alone: the goals, the rows that were lost, and a table and a plot for each part."""

from collections.abc import Iterable, Iterator, Mapping

from .figures import Part, Spread
from .goals import GOALS, reasons
from .plots import number

_LESS_IS_BETTER = ("CPU", "ms", "seconds", "MB", "kB", "tasks", "×", "statements")


def page(parts: Mapping[str, Part], plots: str = "") -> str:
    """Markdown. `plots` is the path from the page to the folder of the plots."""
    if not parts:
        return "# Benchmarks\n\nNothing is measured yet: run `make bench`.\n"
    why = reasons()
    return "\n".join(
        (
            "# Benchmarks\n",
            _INTRODUCTION,
            *_warning(parts),
            "## Goals\n",
            _table(("goal", "wanted", "measured", "", "reason"), _goals(parts, why["goals"])),
            "## Rows that another wins\n",
            _table(("row", "ahead", "ours ÷ it", "reason"), _losses(parts, why["losses"])),
            *(section for part in parts.values() for section in _part(part, plots)),
            "## Machine, versions and commands\n",
            _table(
                ("part", "command", "seconds", "ended"),
                ((name, f"`{part.command}`", str(part.seconds), part.at) for name, part in parts.items()),
            ),
            *_machines(parts),
        )
    )


_INTRODUCTION = """\
`make bench` starts this service and its peers, and measures them in rounds that take turns. The server has one core, the load
the other. Each figure is the median of its rounds, with the lowest and the highest in brackets. A ratio is taken round by
round. A turn during which other processes or the host had more than 5 % of the machine is thrown away and repeated, and so is
a round in which a bare ASGI app departs by more than 15 % from its own median. CPU seconds are those of the server: a busy
machine changes them less.
"""


def _warning(parts: Mapping[str, Part]) -> Iterator[str]:
    if noisy := sum(part.kept_noisy for part in parts.values()):
        yield f"**The machine was not quiet:** {noisy} noisy turns had to be kept. Run it again to trust these figures.\n"


def _goals(parts: Mapping[str, Part], why: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for goal in GOALS:
        found = goal.take(parts)
        verdict = "not measured" if found is None else "met" if goal.met(found) else "**missed**"
        measured = _spread(found, f" {goal.unit}") if found else ""
        yield goal.text, goal.bound, measured, verdict, why.get(goal.name, "")


def losses(parts: Mapping[str, Part]) -> Iterator[tuple[str, str, Spread]]:
    """Rows in which a peer is ahead of our first contender in the first measure: the row, the one ahead, ours ÷ it."""
    for part in parts.values():
        for row, contenders in part.rows.items():
            ours = next(iter(contenders), "")
            measure = next(iter(contenders.get(ours, {})), "")
            for name in contenders:
                found = part.ratio(row, ours, name)
                if found is None or name.startswith("ours") or name in part.limits:
                    continue
                if found.median > 1 if measure.startswith(_LESS_IS_BETTER) else found.median < 1:
                    yield f"{part.name}, {row}", name, found


def _losses(parts: Mapping[str, Part], why: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for row, name, found in losses(parts):
        yield row, name, _spread(found), why.get(row, "")


def missed(parts: Mapping[str, Part]) -> Iterator[str]:
    """The keys of reasons.toml that the results ask for."""
    for goal in GOALS:
        if (found := goal.take(parts)) and not goal.met(found):
            yield f'[goals] "{goal.name}"'
    yield from dict.fromkeys(f'[losses] "{row}"' for row, _, _ in losses(parts))


def _part(part: Part, plots: str) -> Iterator[str]:
    yield f"## {part.title}\n"
    thrown = f" Turns thrown away: {part.thrown_away}; kept although the machine was not quiet: {part.kept_noisy}."
    yield f"{part.how}{thrown if part.rows else ''}\n"
    if part.rows:
        yield f"![{part.title}]({plots}{part.name}.svg)\n"
    for title, file in part.pictures.items():
        yield f"### {part.title}: {title}\n"
        yield f"![{part.title}: {title}]({plots}{file})\n"
    for row, contenders in part.rows.items():
        if not contenders:
            continue
        measures = list(dict.fromkeys(measure for found in contenders.values() for measure in found))
        ratios = [f"{measure} ÷ {part.base}" for measure in measures if part.base in contenders]
        heads = ("", *measures, *ratios)
        yield f"### {part.title}: {row}\n"
        yield _table(heads, (_contender(part, row, name, measures) for name in contenders))
    if part.missing:
        yield f"### {part.title}: without figures\n"
        yield _table(("", "reason"), part.missing.items())
    if part.settings:
        yield f"### {part.title}: settings\n"
        yield _table(("", "runs with"), part.settings.items())


def _contender(part: Part, row: str, name: str, measures: list[str]) -> tuple[str, ...]:
    cells = [_spread(found) if (found := part.spread(row, name, measure)) else "" for measure in measures]
    if part.base in part.rows[row]:
        cells += [_spread(found) if (found := part.ratio(row, name, part.base, one)) else "" for one in measures]
    return (f"**{name}**" if name.startswith("ours") else name, *cells)


def _machines(parts: Mapping[str, Part]) -> Iterator[str]:
    """One table: what differs between the parts, which may have been run apart, is shown together."""
    names = dict.fromkeys(name for part in parts.values() for name in part.machine)
    values = {
        name: dict.fromkeys(part.machine[name] for part in parts.values() if name in part.machine) for name in names
    }
    yield _table(("", ""), ((name, "; ".join(found)) for name, found in values.items()))


def _spread(found: Spread, unit: str = "") -> str:
    if found.low == found.high:
        return f"{number(found.median)}{unit}"
    return f"{number(found.median)}{unit} ({number(found.low)}–{number(found.high)})"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in cells)
