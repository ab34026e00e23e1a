"""The Prefer header (RFC 7240)."""

import time

import pytest

from quart_async_api.http.delivery.prefer import WAIT_LIMIT, Preferences, parse


@pytest.mark.parametrize(
    ("header", "respond_async", "wait"),
    [
        ("", False, None),
        ("respond-async", True, None),
        ("Respond-ASYNC", True, None),
        ('respond-async=""', True, None),
        ("respond-async; foo=bar", True, None),
        ("respond-async, wait=5", True, 5),
        ("wait=5,respond-async", True, 5),
        ("WAIT = 5 , respond-async", True, 5),
        ('respond-async, wait="5"', True, 5),
        ("wait=0", False, 0),
        ("wait=30", False, 30),
        ("wait=31", False, WAIT_LIMIT),
        ("wait=" + "9" * 5000, False, WAIT_LIMIT),
        ("wait=00005", False, 5),
        ("wait=1, wait=2", False, 1),
        ("return=minimal, handling=strict, respond-async", True, None),
        ('foo="a, respond-async"', False, None),
        (", ,, respond-async ,", True, None),
        ("respond-async=true", False, None),
        ("respond async", False, None),
        ('"respond-async"', False, None),
        ("wait", False, None),
        ("wait=", False, None),
        ("wait=-1", False, None),
        ("wait=1.5", False, None),
        ("wait=five", False, None),
        ("wait=٥", False, None),
        ("wait=5 6", False, None),
        ("=, ;, wait;=5", False, None),
    ],
)
def test_what_is_understood_counts_and_the_rest_is_ignored(header: str, respond_async: bool, wait: int | None) -> None:
    assert parse(header) == Preferences(respond_async, wait)


def test_what_is_applied_is_echoed_as_it_was_applied() -> None:
    assert parse("wait=99, respond-async").applied == "respond-async, wait=30"
    assert parse("respond-async").applied == "respond-async"
    assert parse("nothing").applied == ""


@pytest.mark.parametrize(
    "header", ["a" + ";  " * 20_000 + "!", '"' * 50_000, "a=" + '"\\' * 30_000, "a" * 60_000 + "=="]
)
def test_no_header_keeps_the_parser_busy(header: str) -> None:
    started = time.process_time()
    parse(header)
    assert time.process_time() - started < 1
