"""Windows of requests, on a clock of the test's own."""

import pytest

from quart_async_api.services import limits as rate_limits
from quart_async_api.services.limits import Policy, Quota, RateLimits
from quart_async_api.wire.addresses import network


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(Policy(2, 60), clock=clock)


@pytest.mark.parametrize(
    ("text", "policy"), [("5/second", Policy(5, 1)), ("600/minute", Policy(600, 60)), ("1/hour", Policy(1, 3600))]
)
def test_a_policy_is_read_as_it_is_said(text: str, policy: Policy) -> None:
    assert Policy.parse(text) == policy


def test_a_window_begins_with_the_first_request_and_ends_after_its_seconds(limits: RateLimits, clock: Clock) -> None:
    assert limits.take("a") == Quota(1, 60)
    clock.now += 0.5
    assert limits.take("a") == Quota(0, 60)  # rounded up: nobody comes back too early
    clock.now += 59
    assert limits.take("a") == Quota(0, 1, exceeded=True)
    clock.now += 0.5
    assert limits.take("a") == Quota(1, 60)


def test_one_caller_takes_nothing_from_another(limits: RateLimits) -> None:
    for _ in range(3):
        limits.take("a")
    assert limits.take("b") == Quota(1, 60)


def test_what_is_over_is_forgotten(limits: RateLimits, clock: Clock) -> None:
    for number in range(10):
        limits.take(str(number))
    clock.now += 60
    limits.take("a")
    assert len(limits) == 1


def test_the_oldest_is_forgotten_where_there_is_no_room(
    limits: RateLimits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MOST_CALLERS", 2)
    for caller in ("a", "a", "b", "c"):
        clock.now += 1
        limits.take(caller)
    assert len(limits) == 2
    assert limits.take("b").remaining == 0  # as it was
    assert limits.take("a").remaining == 1  # anew


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("<local>", "<local>"),
        ("", ""),
    ],
)
def test_what_counts_as_one_client(address: str, counted: str) -> None:
    assert network(address) == counted
