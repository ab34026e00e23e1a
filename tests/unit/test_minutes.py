"""The minutes that a process counts: their histograms, their bounds, their form in the database, and how they add up."""

import math
from statistics import NormalDist

import pytest

from quart_async_api.observability.histograms import MOST, Histogram, add, bucket, end, percentile
from quart_async_api.observability.minutes import MOST_KINDS, MOST_TASKS, OTHERS, Minute, Times, dump, load


def histogram(*seconds: float) -> Histogram:
    found: Histogram = {}
    for each in seconds:
        add(found, {bucket(each): 1})
    return found


def test_each_bucket_ends_where_the_next_begins() -> None:
    for number in range(1, MOST):
        assert bucket(end(number) * 0.999) == number
        assert bucket(end(number) * 1.001) == number + 1
    assert bucket(-1.0) == bucket(0.0) == bucket(0.001) == 0
    assert bucket(1e12) == MOST


def test_percentiles_are_at_most_a_tenth_off_also_of_two_processes_together() -> None:
    durations = sorted(math.exp(2 * NormalDist().inv_cdf(rank / 3001)) for rank in range(1, 3001))
    both = histogram(*durations[::3])
    add(both, histogram(*durations[1::3], *durations[2::3]))
    for percent in (50, 95, 99):
        exact = durations[round(percent / 100 * len(durations)) - 1]
        found = percentile(both, percent)
        assert found is not None
        assert found == pytest.approx(exact, rel=0.1)
    assert percentile({}, 50) is None


def test_a_minute_is_bounded_whatever_names_come() -> None:
    minute = Minute()
    for number in range(1000):
        minute.times(f"task-{number}").ran[0] = 1
        minute.count_failure("E" * 200 + str(number) if number % 2 else f"Error{number}")
    assert len(minute.tasks) == MOST_TASKS + 1
    assert len(minute.failures) == MOST_KINDS + 1
    assert sum(minute.failures.values()) == 1000
    assert minute.failures[OTHERS] > 0
    assert max(map(len, minute.failures)) == 100


def test_counts_of_processes_add_up_and_of_readings_the_greatest_counts() -> None:
    one = Minute(
        submitted=2, failed=1, queued=5, running=3, oldest=1.5, requests=[0, 9, 0, 1, 0], connections=4, lag=0.2
    )
    one.tasks["a"] = Times(1, {3: 1}, {9: 2})
    one.failures["ValueError"] = 1
    other = Minute(submitted=1, queued=7, running=2, requests=[1, 1, 1, 1, 1], connections=2, started=["2026"])
    other.tasks = {"a": Times(0, {3: 1}, {8: 1}), "b": Times()}
    other.failures["ValueError"] = 2
    total = load(dump(one))
    total.add(load(dump(other)))
    assert (total.submitted, total.failed, total.requests, total.connections) == (3, 1, [1, 10, 1, 2, 1], 6)
    assert (total.queued, total.running, total.oldest, total.lag) == (7, 3, 1.5, 0.2)
    assert total.tasks == {"a": Times(1, {3: 2}, {8: 1, 9: 2}), "b": Times()}
    assert total.failures == {"ValueError": 3}
    assert total.started == ["2026"]


def test_a_minute_without_anything_is_empty_and_members_of_newer_versions_are_left_out() -> None:
    assert dump(Minute()) == "{}"
    assert load('{"submitted": 3, "not known yet": [1]}') == Minute(submitted=3)
    for text in ('{"requests": [1]}', '{"tasks": []}', "nonsense", "[]"):
        with pytest.raises(ValueError):  # noqa: PT011 - of pydantic
            load(text)
