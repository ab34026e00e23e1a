"""Plots as SVG: one bar for each contender, ours in colour, in groups with a heading for each row."""

from collections.abc import Iterator

from .figures import Part

_OURS, _PEER, _LIMIT = "#2a9d8f", "#b8bec7", "#e3e6ea"
_LEFT, _LENGTH, _WIDTH = 290, 340, 800


def plot(part: Part) -> str:
    """The first measure of each contender of each row, as long as it is large."""
    elements, y = [], 32
    for row, contenders in part.rows.items():
        if not contenders:
            continue
        measure = next(iter(next(iter(contenders.values()))))
        elements.append(f'<text x="16" y="{y + 14}" font-weight="bold">{_escaped(row)}, {measure}</text>')
        elements += _bars(part, row, y + 24)
        y += 24 + 24 * len(contenders) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="13">'
        f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
        f'<text x="16" y="22" font-size="15" font-weight="bold">{_escaped(part.title)}</text>{"".join(elements)}</svg>\n'
    )


def _bars(part: Part, row: str, y: int) -> Iterator[str]:
    spreads = {name: spread for name in part.rows[row] if (spread := part.spread(row, name))}
    largest = max((one.high for one in spreads.values()), default=0) or 1
    for name, spread in spreads.items():
        length = max(2.0, _LENGTH * spread.median / largest)
        low, high = (_LEFT + _LENGTH * value / largest for value in (spread.low, spread.high))
        colour = _OURS if name.startswith("ours") else _LIMIT if name in part.limits else _PEER
        yield (
            f'<text x="{_LEFT - 10}" y="{y + 14}" text-anchor="end">{_escaped(name)}</text>'
            f'<rect x="{_LEFT}" y="{y}" width="{length:.0f}" height="18" rx="3" fill="{colour}"/>'
            f'<path d="M{low:.0f} {y + 9} H{high:.0f}" stroke="#333"/>'
            f'<text x="{max(_LEFT + length, high) + 8:.0f}" y="{y + 14}">{number(spread.median)}</text>'
        )
        y += 24


def number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
