"""What is a Host, and whose: RFC 9110 section 7.2."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest, MisdirectedRequest

from quart_async_api.http.guards.hosts import AllowedHosts
from quart_async_api.wire.addresses import check_syntax, host_of

LABELS = st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 253)
PORTS = st.one_of(st.just(""), st.just(":"), st.integers(0, 65535).map(lambda port: f":{port}"))

INVALID = [
    "[::1]evil.com", "localhost:80@evil.com", "localhost@evil.example", "user:password@localhost", "@localhost",
    "a..b", ".a", "a" * 64, "a." * 127 + "a", "[::1", "::1", "[::1]]", "[]", "[1.2.3.4]", "[::1%25eth0]", "[v1.a]",
    "localhost:http", "localhost:-1", "localhost:+80", "localhost:65536", "localhost:99999", "localhost:8\u0660",
    "localhost:80:80", "localhost/", "localhost?", "localhost#", "localhost\\", "local host", " localhost", "localhost ",
    "localhost,localhost", "%6cocalhost", "localh\xf6st", "localhost\x7f", "localhost\0", "localhost\n", "l\u212aa", ":80",
]  # fmt: skip


@pytest.mark.parametrize("host", INVALID)
def test_what_is_no_host_is_bad_and_names_nothing(host: str) -> None:
    assert host_of(host) is None
    with pytest.raises(BadRequest):
        check_syntax(host)
    with pytest.raises(MisdirectedRequest):
        AllowedHosts((host,)).check("evil.example", None)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"), ("LocalHost:1", "localhost"), ("localhost.", "localhost"), ("localhost.:80", "localhost"),
        ("localhost:", "localhost"), ("localhost:0", "localhost"), ("a:65535", "a"), ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]", "::1"), ("[::1]:8000", "::1"), ("[0:0:0:0:0:0:0:1]", "::1"), ("[2001:DB8::1]:1", "2001:db8::1"),
        ("my_service:80", "my_service"), ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("a" * 63, "a" * 63),
    ],
)  # fmt: skip
def test_what_a_host_names(authority: str, host: str) -> None:
    check_syntax(authority)
    assert host_of(authority) == host


@given(NAMES, PORTS)
def test_every_name_is_read_with_and_without_a_port(name: str, port: str) -> None:
    assert host_of(name + port) == name.lower()


@given(st.ip_addresses(v=6), PORTS)
def test_every_ipv6_address_is_read_in_brackets_alone(address: ipaddress.IPv6Address, port: str) -> None:
    assert host_of(f"[{address}]{port}") == str(address)
    assert host_of(f"[{address.exploded.upper()}]{port}") == str(address)


@given(st.one_of(st.text(), st.from_regex(r"[\[\]a-f0-9.:@%_-]{0,40}", fullmatch=True)))
def test_nothing_else_is_read_as_a_host(text: str) -> None:
    host = host_of(text)
    if host is not None:
        rest = text.lower().removeprefix(f"[{text[1:].partition(']')[0]}]".lower() if text[0] == "[" else host)
        assert rest.removeprefix(".").removeprefix(":").isdigit() or rest in ("", ".", ":", ".:")


def test_a_request_without_a_host_is_bad_and_one_with_an_empty_host_is_misdirected() -> None:
    with pytest.raises(BadRequest):
        check_syntax(None)
    check_syntax("")
    with pytest.raises(MisdirectedRequest):
        AllowedHosts(("*.example.com", ".example.com")).check("", None)


def test_the_operator_may_name_an_ipv6_address_with_or_without_brackets() -> None:
    for name in ("2001:db8::1", "[2001:db8::1]"):
        AllowedHosts((name,)).check("[2001:DB8:0::1]:8000", None)


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("192.0.2.1:8000", "::ffff:192.0.2.1"),
        ("[::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
        ("[fe80::1]:8000", "fe80::1%eth0"),
        ("[2001:db8::1]", "2001:db8:0:0::1"),
    ],
)
def test_the_address_of_a_socket_of_both_families_was_no_name_of_the_service(host: str, bound: str) -> None:
    AllowedHosts(()).check(host, bound)
    for other in ("192.0.2.2", "[fe80::2]", "evil.example", ""):
        with pytest.raises(MisdirectedRequest):
            AllowedHosts(()).check(other, bound)
