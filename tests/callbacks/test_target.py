"""Where callbacks may go: each spelling of what is not the public internet is refused, in the text and in the answer of DNS."""

import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.callbacks.target import LONGEST_URL, BadTarget, BlockedAddress, Targets, origin_of
from quart_async_api.upstream.addresses import is_public
from tests.each import each

from .conftest import Make

PUBLIC = ("https://93.184.216.34/", "https://1.1.1.1", "https://[2606:4700:4700::1111]/hook")
NAMES = (
    "https://example.com",
    "https://EXAMPLE.com/hook?x=%2F",
    "https://example.com.",
    "https://example.com:443/",
    "https://example.com:80/",
    "https://1.2.3.4.example.com/",
    "https://0x7f.example.com/",
    "https://hooks_of.example.com/",
    "https://xn--bcher-kva.example/",
    "https://bücher.example/ü",
)
# Hosts that are, or would be to some, an address that is not public: loopback as numbers are written, wrapped addresses,
# private and local ones, metadata services, multicast, what else is reserved, characters that some turn into others.
HOSTS = """
127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.0.0.1. 127.1.
2130706433. 127.255.255.254 0 0.0.0.0 0x0 00 0x 1.2.3.4.5 256.1.1.1 127.0.0.0x1 127.0.0.01 4294967296 1e3.1
example.1 example.0x7f [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
[::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::10.0.0.1] [64:ff9b::169.254.169.254]
[64:ff9b:1::1] [2002:7f00:1::] [2002:c0a8:1::1] [2002:a9fe:a9fe::] [2001:0:4136:e378:8000:63bf:80ff:fffe]
[2001:0:1::f5ff:fffe] 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 100.64.0.1 100.127.255.255
[fe80::1] [fe80::1%25eth0] [fe80::1%eth0] [fc00::1] [fd12:3456::1] [fec0::1] [feff::1] 169.254.169.254 0xa9fea9fe
2852039166 0251.0376.0251.0376 [::ffff:169.254.169.254] [fd00:ec2::254] 100.100.100.200 192.0.0.192 168.63.129.16
224.0.0.1 239.255.255.250 255.255.255.255 [ff02::1] [ff0e::1] 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1
240.0.0.1 192.0.0.8 192.88.99.1 [2001:db8::1] [3fff::1] [100::1] [2001:2::1] [2001:20::1] [5f00::1] [4000::1]
[2606:4700:4700::1111%25eth0] １２７.0.0.1 127。0。0。1 127．0．0．1 127｡0｡0｡1 ①②⑦.0.0.1 127.0.0.① %31%32%37.0.0.1
127.0.0.%31 %6c%6fcalhost example.com%2f.evil.example example.com%00 ⓛocalhost exa\u00admple.com [::１]
"""

URLS = (
    *(
        "",
        " ",
        "https",
        "https:",
        "https://",
        "https:///",
        "//example.com",
        "/hook",
        "https:example.com",
        "example.com/hook",
    ),
    *(
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
    ),
    *(
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://:@example.com/",
    ),
    *("https://example.com@127.0.0.1/", "https://127.0.0.1@example.com/", "https://example.com:443@127.0.0.1/"),
    *(
        "https://example.com/#",
        "https://example.com/#fragment",
        "https://example.com#@127.0.0.1/",
        "https://127.0.0.1#@a.com",
    ),
    *(
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1\\@example.com",
        "https:\\\\example.com",
        "https://example.com\\",
    ),
    *(
        "https://exam ple.com/",
        " https://example.com/",
        "https://example.com/ ",
        "https://example.com/\n",
        "https://a.com\t/",
    ),
    *(
        "https://example.com/\x00",
        "https://example.com/\r\nx: y",
        "https://example.com/\x7f",
        "https://example.com/\u200b",
    ),
    *(
        "https://example.com/\u2028",
        "https://example.com/\ud800",
        "\ufeffhttps://example.com/",
        "https://example.com\u3000/",
    ),
    *("https://example.com:8443/", "https://example.com:22/", "https://example.com:0/", "https://example.com:65536/"),
    *(
        "https://example.com:-1/",
        "https://example.com:443:443/",
        "https://example.com:x/",
        "https://example.com:４４４/",
    ),
    *(
        "https://[::1",
        "https://::1/",
        "https://[v1.x]/",
        "https://[127.0.0.1]/",
        "https://[example.com]/",
        "https://ex*mple.com/",
    ),
    *(
        "https://a,b.com/",
        "https://a;b.com/",
        "https://a&b.com/",
        "https://<script>/",
        "https://a'b.com/",
        'https://a"b.com/',
    ),
    f"https://example.com/{'x' * LONGEST_URL}",
    f"https://example.com/{'ü' * 1000}",  # 6000 characters when it is encoded
    f"https://{'a.' * 200}com/",
)


def targets(**settings: Any) -> Targets:
    return Targets(Settings(database_url="sqlite://unused.db", **settings))


@pytest.mark.parametrize("url", [*PUBLIC, *NAMES])
def test_public_addresses_and_names_pass(url: str) -> None:
    assert targets().parse(url).url.lower().startswith("https://")


@pytest.mark.parametrize("host", HOSTS.split())
def test_no_spelling_of_an_address_that_is_not_public_passes(host: str) -> None:
    for url in (f"https://{host}/", f"https://{host}:443/hook", f"HTTPS://{host}?x"):
        with pytest.raises(BadTarget):
            targets().parse(url)


@pytest.mark.parametrize("url", URLS)
def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    with pytest.raises(BadTarget):
        targets().parse(url)


def test_what_is_kept_fits_into_its_columns() -> None:
    longest = f"https://{'a.' * 126}a/"
    longest += "x" * (LONGEST_URL - len(longest))
    assert len(targets().parse(longest).url) == LONGEST_URL
    assert len(origin_of(longest)) <= 300


def _unwrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    number = int(address)
    if number >> 32 in (0, 0xFFFF, 0x64FF9B << 64):
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if number >> 112 == 0x2002:
        return ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    if number >> 96 == 0x20010000:
        return ipaddress.IPv4Address(~number & 0xFFFFFFFF)
    return address


v4 = st.ip_addresses(v=4).map(int)
wrapped = st.one_of(
    v4,
    v4.map(lambda number: 0xFFFF << 32 | number),
    v4.map(lambda number: 0x64FF9B << 96 | number),
    st.builds(lambda number, rest: 0x2002 << 112 | number << 80 | rest, v4, st.integers(0, 2**80 - 1)),
    st.builds(lambda number, rest: 0x20010000 << 96 | rest << 32 | ~number & 0xFFFFFFFF, v4, st.integers(0, 2**64 - 1)),
).map(ipaddress.IPv6Address)


@settings(deadline=None)
@given(st.ip_addresses(v=6) | wrapped)
def test_no_address_passes_that_is_not_global_when_unwrapped(address: ipaddress.IPv6Address) -> None:
    inner = _unwrapped(address)
    if is_public(address):
        assert inner.is_global
        assert not inner.is_multicast
        assert not inner.is_reserved
    for spelling in (address.compressed, address.exploded, address.exploded.upper()):
        if not is_public(address):
            with pytest.raises(BadTarget):
                targets().parse(f"https://[{spelling}]/")
        else:
            targets().parse(f"https://[{spelling}]/")


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_no_ipv4_address_passes_that_is_not_global(address: ipaddress.IPv4Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast and not address.is_reserved)


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https://[^/]{1,40}/?", fullmatch=True))
def test_any_text_is_a_target_or_none(text: str) -> None:
    try:
        target = targets().parse(text)
    except BadTarget:
        return
    assert target.url.isascii()
    assert targets().parse(target.url) == target
    assert origin_of(target.url) in (
        f"https://{target.host.removesuffix('.')}:{target.port}",
        f"https://[{target.host}]:443",
    )


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/", "https://10.0.0.1/", "http://[::1]:1/", "http://localhost/hook"]
)
def test_for_development_private_addresses_http_and_any_port_pass(url: str) -> None:
    assert targets(callback_allow_private=True).parse(url).url == url
    with pytest.raises(BadTarget):
        targets(callback_allow_private=True).parse("http://2130706433/")


@pytest.mark.parametrize("url", ["https://example.com", "https://Hooks.Example.com", "https://a.b.example.org/"])
def test_of_the_hosts_that_are_allowed_each_passes(url: str) -> None:
    assert targets(callback_hosts="example.com,hooks.EXAMPLE.com,.example.org").parse(url).host in url.lower()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://a.example.com",
            "https://example.com.evil.example",
            "https://notexample.org",
            "https://93.184.216.34/",
        ),
        *(
            "https://example.com@evil.example/",
            "https://evil.example/.example.org",
            "https://evil.example?.example.org",
        ),
    ],
)
def test_where_hosts_are_allowed_no_other_passes(url: str) -> None:
    with pytest.raises(BadTarget):
        targets(callback_hosts="example.com,.example.org").parse(url)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com", "https://EXAMPLE.com:443/x?y"),
        ("https://example.com", "https://example.com./"),
        ("https://[2606:4700::1111]/", "https://[2606:4700:0::1111]:443/"),
        ("https://bücher.example", "https://xn--bcher-kva.example/"),
    ],
)
def test_one_place_is_one_origin_however_it_is_spelled(one: str, other: str) -> None:
    assert origin_of(targets().parse(one).url) == origin_of(targets().parse(other).url)


def test_a_socket_for_an_address_that_is_not_public_is_not_made() -> None:
    blocked = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:127.0.0.1", 443, 0, 0))
    with pytest.raises(BlockedAddress, match="not on the public internet"):
        targets().socket(blocked)
    public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))
    targets().socket(public).close()


# At submission, and when it is called


class Names(AbstractResolver):
    """Resolves what it is told to, and keeps which names it was asked for."""

    def __init__(self, known: Mapping[str, tuple[str, ...]]) -> None:
        self._known = known
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self._known:
            raise OSError(None, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._known[host]
        ]

    async def close(self) -> None: ...


@pytest.fixture
def resolver() -> Names:
    return Names(
        {
            "public.example": ("93.184.216.34", "2606:4700:4700::1111"),
            "private.example": ("10.0.0.1",),
            "mixed.example": ("93.184.216.34", "2606:4700:4700::1111", "::1"),
            "mapped.example": ("::ffff:169.254.169.254",),
            "scoped.example": ("fe80::1%2",),
        }
    )


@pytest.fixture
async def client(settings: Settings, resolver: Names) -> AsyncIterator[QuartClient]:
    app = create_app(settings, callback_resolver=resolver)
    async with app.test_app():
        made = app.test_client()
        assert isinstance(made, QuartClient)
        yield made


@each(
    "url",
    [
        *("https://127.0.0.1/", "https://2130706433/", "http://public.example/", "https://public.example:8443/", ""),
        *("https://localhost/", "https://LOCALHOST.", "https://db.localhost/", "https://printer.local/"),
        *("https://metadata.google.internal/", "https://router.home.arpa/"),
        *("https://user@public.example/", "https://public.example/#x", f"https://public.example/{'x' * LONGEST_URL}"),
    ],
)
async def test_a_bad_target_is_refused_at_every_door(client: QuartClient, url: str) -> None:
    for response in (
        await client.get("/test", query_string={"callback_url": url}),
        await client.get("/start-task", query_string={"callback_url": url}),
        await client.post("/start-task", query_string={"callback_url": url}),
        await client.post("/start-task", json={"callback_url": url}),
        await client.post("/jobs", json={"task": "test", "callback_url": url}),
    ):
        assert response.status_code == 422, await response.get_data()
        problem = await response.get_json()
        assert [error["pointer"] for error in problem["errors"]] == ["#/callback_url"], problem
    assert (await (await client.get("/jobs")).get_json())["items"] == []


@each(
    "url",
    [
        *("https://public.example/hook", "https://1.1.1.1/", "https://nobody-knows-it.example/"),
        *("https://private.example/", "https://mixed.example/", "https://mapped.example/", "https://scoped.example/"),
        *("https://localhost.example/", "https://internal.example/", "https://notlocalhost/"),
    ],
)
async def test_a_submission_does_not_tell_what_a_name_stands_for(
    client: QuartClient, resolver: Names, url: str
) -> None:
    later = {"delay": 1000}
    response = await client.post("/jobs", json={"task": "test", "callback_url": url, **later})
    assert response.status_code == 202
    assert resolver.asked == []


async def test_a_callback_does_not_tell_which_private_names_resolve(make: Make) -> None:
    service = await make(
        callback_allow_private=False,
        resolver=Names({"private.example": ("10.0.0.1",), "mixed.example": ("93.184.216.34", "::1")}),
    )
    told = set()
    for name in ("private.example", "mixed.example", "nobody.example"):
        [attempt] = await service.attempts(await service.ended(f"https://{name}/"), 1)
        told.add(attempt["error"].replace(name, "NAME"))
    [error] = told
    assert "has no address, or one that is not on the public internet" in error
