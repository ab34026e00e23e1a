"""Histograms of durations on a logarithmic scale: sparse, small as JSON, and those of several processes add up.

A histogram is a dict: the number of a bucket, and how many durations it has. Bucket 0 has all up to a millisecond. Each further
one ends 2 ** (1/4) times higher, so that a percentile is at most a tenth off.
"""

from collections.abc import Mapping
from math import ceil, log2

Histogram = dict[int, int]

LEAST = 0.001  # seconds, of bucket 0
STEPS = 4  # buckets, until one ends twice as high
MOST = 27 * STEPS  # the last bucket, which has all longer ones too: 37 hours


def bucket(seconds: float) -> int:
    """Return the number of the bucket for a duration."""
    return min(MOST, ceil(STEPS * log2(seconds / LEAST))) if seconds > LEAST else 0


def end(number: int) -> float:
    """Return the longest duration of a bucket, in seconds."""
    return float(LEAST * 2 ** (number / STEPS))


def add(histogram: Histogram, others: Mapping[int, int]) -> None:
    """Add the durations of another histogram."""
    for number, count in others.items():
        histogram[number] = histogram.get(number, 0) + count


def percentile(histogram: Mapping[int, int], percent: float) -> float | None:
    """Return the seconds that so many percent of the durations do not exceed; None for an empty histogram.

    Within a bucket, durations are taken to be spread evenly.
    """
    rank = percent / 100 * sum(histogram.values())
    below = 0
    for number, count in sorted(histogram.items()):
        if count and below + count >= rank:
            start = end(number - 1) if number else 0.0
            return start + (end(number) - start) * max(0.0, rank - below) / count
        below += count
    return None
