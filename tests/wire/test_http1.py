"""The cases of RFC 9112, as bytes to a listener, for both implementations of HTTP/1.1."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .http1_server import KINDS, Served, answers, served

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
OLD = b"GET / HTTP/1.0\r\n" + HOST
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
BARE = b"GET / HTTP/1.1\n" + HOST + b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = POST + CHUNKED + b"\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
LONG = b"X-Long: " + b"a" * 66_000


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(request.param) as server:
        yield server


@dataclass(frozen=True)
class Case:
    """`statuses`: of all answers to `sent`, until the connection is closed. `hypercorn`: where its own differ."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    hypercorn: tuple[int, ...] | None = None


def refused(name: str, sent: bytes, status: int = 400, hypercorn: tuple[int, ...] | None = None) -> Case:
    """A request after which nothing on the connection is read: LAST would be a request that was smuggled in."""
    return Case(name, sent + LAST, (status,), hypercorn)


CASES = [
    # Two readers could find two ends
    refused("chunked and a length", POST + CHUNKED + b"Content-Length: 5\r\n\r\n" + HELLO),
    refused("a length and chunked", POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + HELLO),
    refused("two lengths", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    refused("two equal lengths", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, (200, 200)),
    refused("two equal lengths in one field", POST + b"Content-Length: 5, 5\r\n\r\nhello", 400, (200, 200)),
    refused("a negative length", POST + b"Content-Length: -5\r\n\r\nhello"),
    refused("a signed length", POST + b"Content-Length: +5\r\n\r\nhello"),
    refused("a length that is no number", POST + b"Content-Length: five\r\n\r\nhello"),
    refused("an empty length", POST + b"Content-Length: \r\n\r\nhello"),
    refused("a length past all bounds", POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello"),
    refused("chunked under HTTP/1.0", b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + HELLO),
    refused("a coding after chunked", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + HELLO, 400, (501,)),
    refused("a coding after chunked, in two fields", POST + CHUNKED + b"Transfer-Encoding: gzip\r\n\r\n" + HELLO, 400, (501,)),
    refused("chunked twice", POST + CHUNKED + CHUNKED + b"\r\n" + HELLO, 400, (501,)),
    refused("an empty coding", POST + b"Transfer-Encoding: \r\n\r\n" + HELLO, 400, (501,)),
    refused("another coding", POST + b"Transfer-Encoding: gzip\r\n\r\n" + HELLO, 501),
    refused("another coding before chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + HELLO, 501),
    refused("no coding", POST + b"Transfer-Encoding: identity\r\n\r\n" + HELLO, 501),
    refused("chunked with a parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + HELLO, 501),
    refused("a vertical tab in a coding", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + HELLO),
    # Lines
    refused("a bare LF in the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400, (200, 200)),
    refused("a bare LF after a field", b"GET / HTTP/1.1\r\nHost: localhost\n\r\n", 400, (200, 200)),
    refused("bare LFs alone", b"GET / HTTP/1.1\nHost: localhost\n\n", 400, (200, 200)),
    refused("a bare CR in the request line", b"GET / HTTP/1.1\r" + HOST + b"\r\n"),
    refused("a bare CR in a field", GET + b"X-Field: a\rb\r\n\r\n"),
    refused("a NUL in a field", GET + b"X-Field: a\0b\r\n\r\n"),
    refused("a NUL in the name of a field", GET + b"X\0Field: a\r\n\r\n"),
    refused("a NUL in the target", b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a control character in a field", GET + b"X-Field: \x01\r\n\r\n", 400, (200, 200)),
    refused("a DEL in a field", GET + b"X-Field: \x7f\r\n\r\n", 400, (200, 200)),
    refused("a DEL in a trailer", CHUNKS + b"0\r\nX-Field: \x7f\r\n\r\n", 400, (200, 200)),
    refused("a line that continues the one before", GET + b"X-Field: a\r\n b\r\n\r\n", 400, (200, 200)),
    refused("a continued Host", b"GET / HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n", 400, (200, 200)),
    refused("a space before the first field", b"GET / HTTP/1.1\r\n " + HOST + b"\r\n"),
    refused("a space before the colon", GET + b"X-Field : a\r\n\r\n"),
    refused("a space before the colon of a length", POST + b"Content-Length : 5\r\n\r\nhello"),
    refused("a field without a name", GET + b": a\r\n\r\n"),
    refused("a field without a colon", GET + b"X-Field\r\n\r\n"),
    refused("a name with a slash", GET + b"X/Field: a\r\n\r\n"),
    refused("a name past ASCII", GET + b"X-\xff: a\r\n\r\n"),
    refused("two spaces in the request line", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a tab in the request line", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a space at the end of the request line", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
    refused("a space in the target", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("bytes past ASCII in the target", b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("no method", b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a method that is no token", b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("no version", b"GET /\r\n" + HOST + b"\r\n"),
    refused("nonsense", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    refused("a line alone", b"GET\r\n\r\n"),
    # Versions
    refused("HTTP/2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    refused("HTTP/0.9", b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    refused("HTTP/3", b"GET / HTTP/3\r\n" + HOST + b"\r\n", 505, (400,)),
    refused("HTTP/1.10", b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", 505, (400,)),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("another protocol", b"GET / RTSP/1.0\r\n" + HOST + b"\r\n"),
    refused("a version in lower case", b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    # Host
    refused("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    refused("two Hosts", GET + HOST + b"\r\n"),
    refused("a Host with a user", b"GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n", 400, (400, 200)),
    refused("a Host that is none", b"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", 400, (400, 200)),
    refused("two Hosts in one", b"GET / HTTP/1.1\r\nHost: localhost, b\r\n\r\n", 400, (400, 200)),
    # Chunks
    refused("a size that is no number", CHUNKS + b"zz\r\nhello\r\n0\r\n\r\n"),
    refused("a size with a sign", CHUNKS + b"+5\r\nhello\r\n0\r\n\r\n"),
    refused("a size in Python's way", CHUNKS + b"0x5\r\nhello\r\n0\r\n\r\n"),
    refused("a size with a space", CHUNKS + b"5 \r\nhello\r\n0\r\n\r\n", 400, (200, 200)),
    refused("a size past all bounds", CHUNKS + b"" + b"f" * 21 + b"\r\nhello\r\n0\r\n\r\n"),
    refused("no size", CHUNKS + b"\r\nhello\r\n0\r\n\r\n"),
    refused("a chunk that is longer than it says", CHUNKS + b"5\r\nhello!\r\n0\r\n\r\n"),
    refused("a chunk that ends by a bare LF", CHUNKS + b"5\r\nhello\n0\r\n\r\n"),
    refused("a size that ends by a bare LF", CHUNKS + b"5\nhello\r\n0\r\n\r\n"),
    refused("a bare LF in an extension", CHUNKS + b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    refused("an extension without an end", CHUNKS + b"5;" + b"a" * 300 + b"\r\n" + HELLO[3:], 400, (200, 200)),
    refused("a trailer that is none", CHUNKS + b"5\r\nhello\r\n0\r\nX Field: a\r\n\r\n"),
    refused("trailers without an end", CHUNKS + b"0\r\nX-Field: " + b"a" * 9000 + b"\r\n\r\n", 431, (200, 200)),
    # Too long
    refused("a field that is too long", GET + LONG + b"\r\n\r\n", 431, (200, 200)),
    refused("a field that is too long and does not end", GET + LONG, 431, (400,)),
    refused("a target that is too long", b"GET /" + b"a" * 66_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431, (200, 200)),
    # Kept
    Case("a request", GET + b"\r\n" + LAST, (200, 200)),
    Case("many at once", (GET + b"\r\n") * 50 + LAST, (200,) * 51),
    Case("a body", POST + b"Content-Length: 5\r\n\r\nhello" + LAST, (200, 200)),
    Case("a body of a GET", GET + b"Content-Length: 5\r\n\r\nhello" + LAST, (200, 200)),
    Case("chunks", CHUNKS + HELLO + LAST, (200, 200)),
    Case("chunks with extensions", CHUNKS + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n' + LAST, (200, 200)),
    Case("chunks with leading zeros", CHUNKS + b"0005\r\nhello\r\n000\r\n\r\n" + LAST, (200, 200)),
    Case("a coding in capitals", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + HELLO + LAST, (200, 200)),
    Case("trailers", CHUNKS + b"5\r\nhello\r\n0\r\nX-Sum: a\r\nHost: other\r\n\r\n" + LAST, (200, 200)),
    Case("empty lines before a request", b"\r\n\r\n" + GET + b"\r\n\r\n" + LAST, (200, 200), (400,)),
    Case("fields with spaces around them", GET + b"X-Field:\t a \t\r\nX-Empty:\r\n\r\n" + LAST, (200, 200)),
    Case("bytes past ASCII in a field", GET + b"X-Field: \xff\r\n\r\n" + LAST, (200, 200)),
    Case("the absolute form", b"GET http://localhost/a?b HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("the asterisk form", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("an unknown method", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("a method of punctuation", b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("CONNECT", b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200), (200,)),
    Case("an upgrade to HTTP/2", GET + b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n" + LAST, (200, 200)),
    Case("an upgrade to something else", GET + b"Connection: upgrade\r\nUpgrade: other\r\n\r\n" + LAST, (200, 200)),
    # What opens no WebSocket does not get the connection to Hypercorn, which reads bare LFs
    *(
        Case(f"a bare LF after an upgrade of nothing: {fields!r}", sent + fields + b"\r\n" + BARE, (200, 400), (200, 200))
        for sent, fields in (
            (GET, b"Connection: upgrade\r\nUpgrade: websocket, other\r\n"),
            (GET, b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: other\r\n"),
            (GET, b"Connection: upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n"),
            (POST, b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
        )
    ),
    Case("HTTP/1.0 upgrades nothing", OLD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + LAST, (200,), (400,)),
    Case("an empty Host", b"GET / HTTP/1.1\r\nHost: \r\n\r\n" + LAST, (200, 200)),
    Case("a later minor version", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("an unknown expectation", GET + b"Expect: nothing\r\n\r\n" + LAST, (200, 200)),
    Case("a 304 without its body", b"GET /none HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (304, 200)),
    Case("an answer in chunks", b"GET /chunked HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, (200, 200)),
    Case("a close among other options", GET + b"Connection: x,\tClose\r\n\r\n" + LAST, (200,), (400,)),
    Case("HTTP/1.0", OLD + b"\r\n" + LAST, (200,), (400,)),
    Case("HTTP/1.0 that goes on", OLD + b"Connection: Keep-Alive\r\n\r\n" + LAST, (200, 200), (400,)),
    Case("HTTP/1.0 with a body", b"POST / HTTP/1.0\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", (200,)),
    Case("HTTP/1.0 without a Host", b"GET / HTTP/1.0\r\n\r\n", (200,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_of_the_standard(server: Served, case: Case) -> None:
    expected = case.statuses if server.is_fast or case.hypercorn is None else case.hypercorn
    server.app.seen.clear()
    found = answers(server.exchange(case.sent))
    assert tuple(answer.status for answer in found) == expected
    assert not server.is_fast or b"connection: close" in found[-1].head
    assert (("GET", b"/last", b"") in server.app.seen) == (len(expected) > 1 and case.sent.endswith(LAST))
    for answer, (method, target, body) in zip(found, server.app.seen, strict=False):
        if answer.status == 200 and answer.body.startswith(b"["):
            assert answer.echo == (method, target.decode(), body.decode())
            assert body in (b"", b"hello")
