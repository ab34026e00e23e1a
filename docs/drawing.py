"""The picture of the rooms, docs/assets/rooms.svg: a house whose floors are the order of the imports."""

import textwrap
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise

from .rooms import LEAVES, Graph, direct, floors, graph, inside_http, purpose

_WIDTH, _GAP_X, _GAP_Y = 260, 36, 34  # of a box; between boxes
_LINE, _PAD = 15, 10
_CHARACTERS = 38  # of a line of text in a box
_INNER = 4 * 110 + 3 * 22  # the row of folders inside `http`
_MARGIN = 20
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#334155}.n{font-weight:600;fill:#0f172a}"
    ".b{fill:#f8fafc;stroke:#64748b}.i{fill:#e2e8f0;stroke:#94a3b8}.l{fill:#ecfdf5;stroke:#6ee7b7}"
    ".a{fill:none;stroke:#475569;stroke-width:1.4;marker-end:url(#e)}"
)
Place = tuple[float, float, float, float]  # left, top, width, height


def picture() -> str:
    """The rooms from those that start the service down to the database; an arrow is an import.

    An arrow that follows from others is left out.
    """
    places, bottom = _places(direct(graph()))
    right = max(left + width for left, _, width, _ in places.values())
    width = right + _MARGIN
    leaves = textwrap.wrap("Leaves, for any module: " + ", ".join(LEAVES), 110)
    height = bottom + _GAP_Y + 2 * _PAD + _LINE * len(leaves) + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        'role="img" aria-labelledby="t">',
        '<title id="t">The rooms of the package, and which imports which</title>',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="e" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#475569"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#fff"/>',
        *_arrows(direct(graph()), places),
        *(line for name, place in places.items() for line in _box(name, place)),
        *_words("l", (_MARGIN, bottom + _GAP_Y, width - 2 * _MARGIN, 2 * _PAD + _LINE * len(leaves)), leaves),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _places(arrows: Graph) -> tuple[dict[str, Place], float]:
    """Where each room stands, and how far down the last one reaches.

    The longest line of imports is the middle column. Another room stands on the side of those that import it.
    """
    rows, middle = floors(arrows), _longest(arrows)
    column: dict[str, int] = {}
    for row in rows:
        taken: set[int] = set()
        sides = {
            name: [side for other in arrows if name in arrows[other] and (side := column.get(other))] for name in row
        }
        for name in sorted(row, key=lambda name: (name not in middle, not sides[name])):
            wanted = [0] if name in middle else sides[name][:1]
            column[name] = next(each for each in (*wanted, 1, -1, 2, -2, 3, -3) if each not in taken)
            taken.add(column[name])
    first = min(column.values())
    places: dict[str, Place] = {}
    top: float = _MARGIN
    for row in rows:
        tall = max((_height(name) for name in row), default=0)
        for name in row:
            wide = _INNER + 2 * _PAD if name == "http" else _WIDTH
            centre = _MARGIN + _WIDTH / 2 + (column[name] - first) * (_WIDTH + _GAP_X)
            places[name] = (centre - wide / 2, top, wide, _height(name))
        top += tall + _GAP_Y
    return places, top - _GAP_Y


def _longest(arrows: Graph) -> set[str]:
    """The rooms of the longest line of imports."""

    def line(name: str) -> list[str]:
        return [name, *_first_longest(line(each) for each in sorted(arrows[name]))]

    return set(_first_longest(line(name) for name in sorted(arrows)))


def _first_longest(lines: Iterable[list[str]]) -> list[str]:
    return max(lines, key=len, default=[])


def _height(name: str) -> float:
    inner = _LINE + 2 * _PAD + _PAD if name == "http" else 0
    return 2 * _PAD + _LINE * (1 + len(_text(name))) + inner


def _text(name: str) -> list[str]:
    return textwrap.wrap(purpose(name).replace("`", ""), _CHARACTERS * (2 if name == "http" else 1))


def _box(name: str, place: Place) -> Iterator[str]:
    left, top, _, height = place
    yield from _words("b", place, [name, *_text(name)], heading=True)
    if name == "http":
        folders = [each for floor in floors(inside_http()) for each in floor]
        y = top + height - _PAD - _LINE - 2 * _PAD
        boxes: dict[str, Place] = {
            each: (left + _PAD + 132 * number, y, 110, _LINE + 2 * _PAD - 4) for number, each in enumerate(folders)
        }
        for each, box in boxes.items():
            yield from _words("i", box, [each.removeprefix("http/")])
        for above, below in pairwise(folders):
            if below in inside_http()[above]:
                x, middle = boxes[above][0] + 110, y + boxes[above][3] / 2
                yield f'<path class="a" d="M{x:g} {middle:g}H{x + 22:g}"/>'


def _words(kind: str, place: Place, lines: Iterable[str], *, heading: bool = False) -> Iterator[str]:
    left, top, width, height = place
    yield f'<rect class="{kind}" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5"/>'
    for number, line in enumerate(lines):
        bold = ' class="n"' if heading and number == 0 else ""
        x, y = left + width / 2, top + _PAD + _LINE * (number + 0.75) - (2 if kind == "i" else 0)
        yield f'<text{bold} x="{x:g}" y="{y:g}" text-anchor="middle">{escape(line)}</text>'


def _arrows(arrows: Graph, places: dict[str, Place]) -> Iterator[str]:
    for name in sorted(arrows):
        left, top, width, height = places[name]
        for other in sorted(arrows[name]):
            to_left, to_top, to_width, _ = places[other]
            start, end = left + width / 2, to_left + to_width / 2
            start += max(-width / 2 + 20, min(width / 2 - 20, (end - start) * 0.35))
            middle = to_top - _GAP_Y / 2
            curve = f"C{start:g} {middle:g} {end:g} {middle:g} {end:g} {to_top:g}"
            yield f'<path class="a" d="M{start:g} {top + height:g}{curve}"/>'
