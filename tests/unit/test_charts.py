"""The geometry of charts: round numbers on the axes, every value in its place, and failures that are seen."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from quart_async_api.web.charts import COUNT, DURATION, RATE, Chart, Measure, Series, path
from quart_async_api.web.durations import brief

NOON = datetime(2026, 11, 22, 11, 58, tzinfo=UTC)


def chart(*series: Series, minutes: int = 10, measure: Measure = COUNT, unfinished: bool = False) -> Chart:
    moments = [NOON + timedelta(minutes=number) for number in range(minutes)]
    marks = [NOON + timedelta(minutes=5), NOON - timedelta(minutes=1)]
    return Chart("jobs", "Jobs", "a minute", moments, series, measure, marks, unfinished=unfinished)


@pytest.mark.parametrize(
    ("measure", "greatest", "labels"),
    [
        (COUNT, 0, ["0", "1", "2"]),
        (COUNT, 3, ["0", "1", "2", "3"]),
        (COUNT, 90, ["0", "25", "50", "75", "100"]),
        (COUNT, 4001, ["0", "2,000", "4,000", "6,000"]),
        (RATE, 0.4, ["0", "0.25", "0.5", "0.75", "1"]),
        (DURATION, 0, ["0 s", "25 ms", "50 ms", "75 ms", "100 ms"]),
        (DURATION, 33, ["0 s", "10 s", "20 s", "30 s", "40 s"]),
        (DURATION, 130, ["0 s", "60 s", "2 min", "3 min"]),
        (DURATION, 9000, ["0 s", "60 min", "2 h", "3 h"]),
    ],
)
def test_an_axis_has_few_and_round_numbers(measure: Measure, greatest: float, labels: Sequence[str]) -> None:
    assert [measure.shown(value) for value in measure.scale(greatest)] == labels


def test_an_axis_reaches_every_value() -> None:
    for measure in (COUNT, RATE, DURATION):
        for exponent in range(-20, 60):
            greatest = 1.37**exponent
            numbers = measure.scale(greatest)
            assert 3 <= len(numbers) <= 6
            assert numbers[-1] >= greatest * 0.999
            assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12 ms"),
        (0.996, "1 s"),
        (5.24, "5.2 s"),
        (99.6, "100 s"),
        (131, "2.2 min"),
        (9000, "2.5 h"),
    ],
)
def test_a_brief_duration_has_two_digits_that_count(seconds: float, text: str) -> None:
    assert brief(seconds) == text


def test_bars_are_stacked_and_one_failure_among_a_thousand_is_seen() -> None:
    drawn = chart(Series("failed", "bad", [0, 1, 0]), Series("succeeded", "good", [0, 999, 500]), minutes=3)
    failed, succeeded = drawn.shapes
    assert (failed.look, failed.path) == ("bad", "M1 990h.8v10h-.8z")
    assert (succeeded.look, succeeded.path) == ("good", "M1 0h.8v990h-.8zM2 500h.8v500h-.8z")
    assert drawn.said == ["", "succeeded 999, failed 1", "succeeded 500, failed 0"]
    assert [values for _, values in drawn.rows] == [["0", "500"], ["1", "999"]]


def test_a_line_goes_through_the_middle_of_each_column() -> None:
    assert path([0, 5, 10], 10) == "M16.67 100L50 50L83.33 0"
    assert path([0, 5, 10], 10, slice(1, 2)) == "M50 50"
    assert path([], 10) == path([1], 10, slice(1, None)) == ""


def test_a_minute_that_is_not_over_is_pale_and_has_no_line() -> None:
    series = Series("failed", "bad", [1, 1]), Series("submitted", "ink", [2, 2], is_line=True)
    drawn = chart(*series, minutes=2, unfinished=True)
    assert [shape.is_over for shape in drawn.shapes] == [True, False]
    assert drawn.lines == [("ink", "M25 0")]
    assert replace(drawn, begins=1).lines == [("ink", "")]


def test_times_are_round_and_starts_are_marked_where_they_were() -> None:
    drawn = chart(Series("queued", "ink", [0] * 10, is_line=True))
    assert drawn.is_empty
    assert [label.text for label in drawn.labels] == ["12:00", "12:02", "12:04", "12:06"]
    assert drawn.mark_places == [50.0]


def test_a_chart_of_no_minutes_is_empty() -> None:
    drawn = chart(Series("queued", "ink", [], is_line=True), Series("failed", "bad", []), minutes=0)
    assert drawn.is_empty
    assert (drawn.shapes, drawn.labels, drawn.mark_places, drawn.rows, drawn.said) == ([], [], [], [], [])
