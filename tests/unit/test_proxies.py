"""Forwarded headers: believed from trusted addresses alone."""

from typing import Any

import pytest

from quart_async_api.wire.proxies import TrustedProxies

PROXIES = TrustedProxies(("10.0.0.0/8", "::1"))


def _scope(peer: str | None, **headers: str) -> dict[str, Any]:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = (peer, 1234) if peer else None
    return {"type": "http", "scheme": "http", "client": client, "headers": [(b"host", b"inner"), *sent]}


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "::2", "unix", None])
def test_a_forged_header_changes_nothing(peer: str | None) -> None:
    scope = _scope(peer, x_forwarded_for="1.2.3.4", x_forwarded_proto="https", x_forwarded_host="evil.example")
    assert PROXIES.resolve(scope) is scope


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
        ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("203.0.113.9, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_stands_for(forwarded: str, client: str) -> None:
    assert PROXIES.resolve(_scope("10.0.0.1", x_forwarded_for=forwarded))["client"][0] == client


def test_scheme_and_host_are_the_first_proxys() -> None:
    resolved = PROXIES.resolve(_scope("::ffff:10.0.0.1", x_forwarded_proto="https", x_forwarded_host="api.example.com"))
    assert resolved["scheme"] == "https"
    assert [value for name, value in resolved["headers"] if name == b"host"] == [b"api.example.com"]


def test_a_scheme_that_is_none_is_ignored() -> None:
    assert PROXIES.resolve(_scope("10.0.0.1", x_forwarded_proto="javascript"))["scheme"] == "http"
