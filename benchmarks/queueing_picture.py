"""The picture of the simulated queueing, docs/assets/queueing.svg: what a job waits for its start, by the rate of the jobs."""

import math
from collections.abc import Iterator

from .queueing import Fleet, Found, simulate

RATES = (100, 1000, 4000, 8000, 16000)
SECONDS = 0.25  # of arrivals, at least LEAST jobs
LEAST = 500
FLEETS = (
    ("4 workers, 8 cores", Fleet(4), "#b45309"),
    ("16 workers, 8 cores", Fleet(16), "#2a9d8f"),
    ("64 workers, 8 cores", Fleet(64), "#7c3aed"),
    ("16 workers, 2 cores", Fleet(16, cores=2), "#64748b"),
)
_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 46, 420, 250
_LOWEST, _HIGHEST = 10.0, 1000.0  # ms


def found(fleet: Fleet, rate: int) -> Found:
    return simulate(fleet, rate, max(LEAST, int(rate * SECONDS)))


def picture() -> str:
    width, height = _LEFT + _WIDTH + 240, _TOP + _HEIGHT + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" '
        'role="img" aria-labelledby="q">',
        '<title id="q">Simulated time from submission to start, by jobs a second</title>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="14" font-weight="bold">Submission to start, ms: median, and 99th percentile '
        "(dashed)</text>",
        *_axes(),
        *(line for place, one in enumerate(FLEETS) for line in _fleet(place, *one)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(rate: float) -> float:
    return _LEFT + _WIDTH * math.log(rate / RATES[0]) / math.log(RATES[-1] / RATES[0])


def _y(milliseconds: float) -> float:
    share = math.log(min(max(milliseconds, _LOWEST), _HIGHEST) / _LOWEST) / math.log(_HIGHEST / _LOWEST)
    return _TOP + _HEIGHT * (1 - share)


def _axes() -> Iterator[str]:
    bottom = _TOP + _HEIGHT
    for rate in RATES:
        yield f'<path d="M{_x(rate):.0f} {_TOP} V{bottom}" stroke="#e2e8f0"/>'
        yield f'<text x="{_x(rate):.0f}" y="{bottom + 18}" text-anchor="middle">{rate:,}</text>'
    for value in (10, 30, 100, 300, 1000):
        yield f'<path d="M{_LEFT} {_y(value):.0f} H{_LEFT + _WIDTH}" stroke="#e2e8f0"/>'
        yield f'<text x="{_LEFT - 8}" y="{_y(value) + 4:.0f}" text-anchor="end">{value}</text>'
    yield f'<text x="{_LEFT + _WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">jobs a second</text>'


def _fleet(place: int, name: str, fleet: Fleet, colour: str) -> Iterator[str]:
    waits = [(rate, found(fleet, rate)) for rate in RATES]
    for of, dash in (("median", ""), ("p99", ' stroke-dasharray="4 3"')):
        points = " ".join(f"{_x(rate):.0f},{_y(1000 * getattr(one, of)):.0f}" for rate, one in waits)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    y, right = _TOP + 20 + 40 * place, _LEFT + _WIDTH + 20
    yield f'<path d="M{right} {y - 4} h24" stroke="{colour}" stroke-width="2"/>'
    yield f'<text x="{right + 32}" y="{y}">{name}</text>'
    yield f'<text x="{right + 32}" y="{y + 16}" fill="#475569">database {waits[-1][1].busy:.0%} busy at {RATES[-1]:,}</text>'
