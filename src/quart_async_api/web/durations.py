"""Durations as short text for people."""

from math import floor, inf, log10

_UNITS = ((0.995, 0.001, "ms"), (119.5, 1, "s"), (7170, 60, "min"), (inf, 3600, "h"))
_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def spent(seconds: float) -> str:
    """Return a duration with its unit, in two parts at most: `340 ms`, `1.25 s`, `2 min 5 s`, `3 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    for size, unit, part, part_unit in _STEPS:
        if seconds >= size:
            whole, rest = divmod(round(seconds / part), size // part)
            return f"{whole} {unit} {rest} {part_unit}" if rest else f"{whole} {unit}"
    return "1 min"


def ago(seconds: float) -> str:
    """Return the age of a moment, or the time until it if `seconds` is negative."""
    if abs(seconds) < 1:
        return "now"
    size, unit = next(
        ((size, unit) for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")) if abs(seconds) >= size), (1, "s")
    )
    whole = int(abs(seconds) // size)
    return f"{whole} {unit} ago" if seconds > 0 else f"in {whole} {unit}"


def brief(seconds: float) -> str:
    """Return a duration in one part with at most two digits that count: `0 s`, `12 ms`, `1.5 s`, `70 s`, `2.5 min`."""
    if seconds <= 0:
        return "0 s"
    size, unit = next((size, unit) for most, size, unit in _UNITS if seconds < most)
    number = seconds / size
    return f"{round(number, 1 - floor(log10(number))):g} {unit}"
