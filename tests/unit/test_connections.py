"""How many connections there may be: in all, of one address, and by the limit of open files."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_async_api.wire.addresses import network
from quart_async_api.wire.connections import Connections, FileShares
from quart_async_api.wire.proxies import TrustedProxies


class _Transport(asyncio.WriteTransport):
    is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def test_one_address_gets_its_share_and_never_more_than_half() -> None:
    connections = Connections(10, 3)
    first = [_Transport() for _ in range(4)]
    assert [connections.add(transport, "192.0.2.1") for transport in first] == [True, True, True, False]
    assert connections.add(_Transport(), "192.0.2.2")
    connections.discard(first[0])
    assert connections.add(first[3], "192.0.2.1")
    connections.discard(first[0])  # again: it frees nothing more
    assert not connections.add(_Transport(), "192.0.2.1")
    assert len(connections) == 4
    assert [Connections(4, 100).add(_Transport(), "192.0.2.1")] == [True]
    small = Connections(4, 100)
    assert [small.add(_Transport(), "192.0.2.1") for _ in range(3)] == [True, True, False]


def test_all_have_a_bound_together_and_a_trusted_proxy_has_that_one_alone() -> None:
    connections = Connections(6, 1, is_exempt=TrustedProxies(("10.0.0.0/8",)).trusts)
    assert all(connections.add(_Transport(), "10.0.0.1") for _ in range(6))
    assert not connections.add(_Transport(), "10.0.0.1")
    assert not connections.add(_Transport(), None)


def test_the_addresses_of_one_ipv6_network_count_as_one() -> None:
    connections = Connections(10, 1, client_of=network)
    assert connections.add(_Transport(), "2001:db8::1")
    assert not connections.add(_Transport(), "2001:db8::2")
    assert connections.add(_Transport(), "2001:db8:0:1::1")


def test_refusals_are_one_line_and_not_one_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    connections = Connections(100, 1)
    assert connections.add(_Transport(), "192.0.2.1")
    for _ in range(1000):
        assert not connections.add(_Transport(), "192.0.2.1")
    assert len(caplog.records) == 1
    assert "192.0.2.1" in caplog.text


def test_all_that_are_open_can_be_cut_off() -> None:
    connections = Connections(2, 2)
    transport, gone = _Transport(), _Transport()
    for each in (transport, gone):
        connections.add(each, None)
    connections.discard(gone)
    connections.abort()
    assert (transport.is_aborted, gone.is_aborted) == (True, False)


SIZES = st.integers(1, 100_000)


@given(limit=st.integers(64, 2**20), reserve=SIZES, backlog=SIZES, most=SIZES)
def test_whatever_the_limit_something_is_kept_and_something_is_served(
    limit: int, reserve: int, backlog: int, most: int
) -> None:
    shares = FileShares.of(limit, reserve=reserve, backlog=backlog, most=most)
    assert 1 <= shares.connections <= most
    assert 1 <= shares.backlog <= backlog
    kept = limit - shares.connections - shares.backlog
    assert kept >= min(reserve, limit // 2)


def test_with_a_usual_limit_all_that_is_set_is_given() -> None:
    shares = FileShares.of(2**20, reserve=200, backlog=2048, most=20_000)
    assert (shares.connections, shares.backlog) == (20_000, 2048)
    assert FileShares.of(1024, reserve=200, backlog=2048, most=20_000).connections > 500
