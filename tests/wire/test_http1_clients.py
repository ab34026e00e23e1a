"""Clients of HTTP/1.1 that leave, half leave, wait, send too much or read too little."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from quart_async_api.server import http1

from .http1_server import AT_ONCE, KINDS, LARGE, PATIENCE, SECONDS, Served, answers, served, until_closed

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
OPENING = (
    *("Connection: keep-alive, Upgrade", "Upgrade: WebSocket"),
    *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyEhIQ=="),
)
FAST = [kind for kind in KINDS if kind.startswith("fast")]


def head(target: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/{version}", "Host: localhost", *fields, "", "")).encode()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, trustme.CA]:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file, authority


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tls: tuple[Path, trustme.CA]) -> Iterator[Served]:
    with served(request.param, tls[0]) as server:
        yield server


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(http1, "_PROBE_SECONDS", 0.05)
    with served(request.param) as server:
        yield server


def only_fast(server: Served) -> None:
    if not server.is_fast:
        pytest.skip("Hypercorn's own HTTP/1.1 takes a half-closed client for one that is gone, as before")


# Half-closed, or gone


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_client_that_half_closes_after_its_requests_gets_all_answers(fast: Served, unix: bool) -> None:
    with fast.connected(unix=unix) as link:
        link.sendall(head("/1") + head("/2") + head("/chunked"))
        link.shutdown(socket.SHUT_WR)
        found = answers(until_closed(link))
    assert [answer.status for answer in found] == [200, 200, 200]
    assert [answer.echo[1] for answer in found[:2]] == ["/1", "/2"]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_client_that_half_closes_and_waits_gets_its_answer(fast: Served, version: str) -> None:
    with fast.connected() as link:
        link.sendall(head("/slow", version=version))
        link.shutdown(socket.SHUT_WR)
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.settimeout(0.5)  # two probes come before
        probes = b""
        with suppress(TimeoutError):
            while True:
                probes += link.recv(100)
        assert probes.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == b""
        assert bool(probes) == (version == "1.1")
        link.settimeout(PATIENCE)
        fast.app.release()
        assert [answer.body for answer in answers(until_closed(link))] == [b"slow"]


def test_a_stream_goes_on_for_a_client_that_half_closes(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/stream", "Connection: close"))
        link.shutdown(socket.SHUT_WR)
        received = b""
        while not received.endswith(b"first\r\n0"):  # and the probe
            received += link.recv(1000)
        fast.app.release()
        received += until_closed(link)
    [answer] = answers(received)
    assert answer.body == b"firstlast"


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("target", ["/slow", "/stream"])
def test_a_client_that_is_gone_cancels_its_handler(server: Served, target: str, reset: bool, unix: bool) -> None:
    with server.connected(unix=unix) as link:
        link.sendall(head(target))
        assert server.app.begun.acquire(timeout=PATIENCE)
        if target == "/stream":
            assert link.recv(1000)
        if reset and not unix:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    assert server.app.left.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("ahead", [b"", head("/") * 20_000], ids=["body", "requests"])
def test_a_client_that_resets_while_the_server_reads_no_more_cancels_its_handler(fast: Served, ahead: bytes) -> None:
    fields = () if ahead else ("Content-Length: 50000000",)
    with fast.connected() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        link.sendall(head("/held", *fields, method="GET" if ahead else "POST"))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.settimeout(0.3)
        with suppress(TimeoutError):
            while True:
                link.sendall(ahead or bytes(65536))
    assert fast.app.left.acquire(timeout=PATIENCE)


def test_a_client_that_is_gone_long_after_it_half_closed_cancels_its_handler(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/slow"))
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100).startswith(b"HTTP/1.1 100 ")
    assert fast.app.left.acquire(timeout=PATIENCE)


def test_a_client_that_leaves_in_its_body_ends_its_handler(server: Served) -> None:
    with server.connected() as link:
        link.sendall(head("/", "Content-Length: 100", method="POST") + b"half")
    with server.connected() as link:
        link.sendall(head("/", "Content-Length: 100", method="POST") + b"half")
        link.shutdown(socket.SHUT_WR)
        refused = [answer.status for answer in answers(until_closed(link))]
        assert refused == [400] or not server.is_fast


# Bodies


def test_the_client_is_told_to_go_on_only_when_the_app_reads(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/held", "Content-Length: 5", "Expect: 100-continue", "Connection: close", method="POST"))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        fast.app.release()
        assert link.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"hello")
        assert answers(until_closed(link))[0].body == b"5"
    received = fast.exchange(head("/unread", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    assert received.startswith(b"HTTP/1.1 413 ")
    with fast.connected() as link:  # a body that has come is not asked for
        link.sendall(head("/", "Content-Length: 5", "Expect: 100-continue", "Connection: close") + b"hello")
        assert until_closed(link).startswith(b"HTTP/1.1 200 ")


def test_a_refused_body_does_not_destroy_its_answer(fast: Served) -> None:
    for fields, body in (
        (("Content-Length: 5000000",), bytes(5_000_000)),
        (("Transfer-Encoding: chunked",), b"10000\r\n" + bytes(65536) + b"\r\nno size\r\n" + bytes(5_000_000)),
    ):
        with fast.connected() as link:
            link.sendall(head("/unread" if "Length" in fields[0] else "/held", *fields, method="POST"))
            link.sendall(body)  # no reset, though nobody reads it
            assert answers(until_closed(link))[0].status in (400, 413)
        fast.app.release()


def test_a_client_that_sends_faster_than_the_app_reads_waits(fast: Served) -> None:
    size = 50_000_000
    with fast.connected() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        link.sendall(head("/held", f"Content-Length: {size}", "Connection: close", method="POST"))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.settimeout(0.3)
        sent = 0
        with suppress(TimeoutError):
            while sent < size:
                sent += link.send(bytes(min(65536, size - sent)))
        assert sent < size / 5
        link.settimeout(PATIENCE)
        fast.app.release()
        while sent < size:
            sent += link.send(bytes(min(65536, size - sent)))
        assert answers(until_closed(link))[0].body == b"%d" % size


def test_a_body_that_the_app_leaves_untaken_does_not_stop_the_connection(server: Served) -> None:
    with server.connected() as link:
        link.sendall(head("/unread", "Content-Length: 100000", method="POST") + bytes(100_000))
        assert link.recv(1000).startswith(b"HTTP/1.1 413 ")
        link.sendall(head("/last", "Connection: close"))
        assert until_closed(link).startswith(b"HTTP/1.1 200 ") or not server.is_fast


def test_what_comes_behind_the_last_request_does_not_destroy_its_answer(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/slow", "Connection: close"))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.sendall(head("/") * 20_000)
        fast.app.release()
        received = b""
        while data := link.recv(65536):  # no reset
            received += data
    assert [answer.body for answer in answers(received)] == [b"slow"]


def test_a_client_that_is_gone_while_the_server_reads_no_more_leaves_its_place(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/held", "Connection: close"))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.sendall(head("/") * 20_000)
    fast.app.release()
    fast.until_empty()


def test_no_request_sees_the_context_of_the_one_before(server: Served) -> None:
    with server.connected() as link:
        for _ in range(3):
            link.sendall(head("/marked", "Content-Length: 1000000", method="POST") + bytes(1_000_000))
            received = b""
            while not received.endswith(b"nothing"):  # Hypercorn writes head and body one after the other
                assert b"left" not in received
                received += (data := link.recv(65536))
                assert data


def test_thousands_of_tiny_chunks_are_one_body(fast: Served) -> None:
    count = 20_000
    with fast.connected() as link:
        link.sendall(head("/", "Transfer-Encoding: chunked", "Connection: close", method="POST"))
        link.sendall(b"1;a\r\nx\r\n" * count + b"0\r\n\r\n")
        assert answers(until_closed(link))[0].echo[2] == "x" * count


# Time


def test_a_head_has_its_time(server: Served) -> None:
    began = time.monotonic()
    with server.connected() as nothing, server.connected() as half, server.connected() as line:
        half.sendall(b"GET / HTTP/1.1\r\nHost")
        line.sendall(b"\r\n")
        for link in (nothing, half, line):
            received = until_closed(link)
            assert received == b"" or not server.is_fast
            assert received or time.monotonic() - began > SECONDS - 0.1


def test_an_idle_connection_has_its_time(server: Served) -> None:
    assert len(answers(server.exchange(head("/") * 2))) == 2


def test_a_body_has_its_time(fast: Served) -> None:
    received = fast.exchange(head("/", "Content-Length: 5", method="POST") + b"hell")
    assert answers(received)[0].status == 408


def test_who_reads_nothing_is_aborted(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/large") * 10)
        assert link.recv(1)
        fast.until_empty()


@pytest.mark.slow
def test_who_reads_slowly_is_not_aborted(fast: Served) -> None:
    with fast.connected() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        link.sendall(head("/large", "Connection: close"))
        size, began = 0, time.monotonic()
        while data := link.recv(65536):
            size += len(data)
            if time.monotonic() - began < 2.5 * SECONDS:
                time.sleep(0.1)
    assert size > len(LARGE)


# Answers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_in_chunks_keeps_the_connection(server: Served, method: str) -> None:
    received = server.exchange(head("/chunked", method=method) + head("/last", "Connection: close"))
    if method == "GET":
        assert answers(received)[0].body == b"firstsecond"
    else:
        assert received.count(b"HTTP/1.1 200") == 2
        assert b"first" not in received


def test_an_answer_to_http_1_0_has_no_chunks_and_ends_with_the_connection(server: Served) -> None:
    received = server.exchange(head("/chunked", "Connection: keep-alive", version="1.0"))
    assert b"chunked" not in received.lower()
    assert received.endswith(b"\r\n\r\nfirstsecond")


def test_an_answer_that_breaks_off_does_not_look_whole(server: Served) -> None:
    received = server.exchange(head("/broken"))
    assert received.endswith(b"4\r\nhalf\r\n")


def test_a_line_break_in_a_field_of_an_answer_adds_no_other_field(server: Served) -> None:
    received = server.exchange(head("/split"))
    assert b"set-cookie" not in received
    assert not server.is_fast or received.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("lengths", ["4,4", "4,5", "+4", "-4", "four", "3", "5"])
def test_an_answer_has_one_length_and_it_is_right(fast: Served, lengths: str) -> None:
    found = answers(fast.exchange(head(f"/lengths?{lengths}") + head("/")))
    assert [answer.status for answer in found] == [500]


def test_a_small_answer_is_one_write(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/"))
        [answer] = answers(link.recv(65536))
        assert answer.echo == ("GET", "/", "")


def test_the_app_sees_the_same_scope(tls: tuple[Path, trustme.CA]) -> None:
    asked = [
        head("/a%20b%2F;c?d=%20&e", "X-Mixed: Value", "x-mixed:  two "),
        head("http://localhost/a?b"),
        head("*", method="OPTIONS"),
        head("/", version="1.0"),
        head("/", method="brew"),
    ]
    found: list[list[dict[str, Any]]] = []
    for kind in KINDS:
        with served(kind, tls[0], root_path="/root") as server:
            for sent in asked:
                server.exchange(sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            server.exchange(head("/", "Connection: close"), unix=True)
            with socket.create_connection(("127.0.0.1", server.tls), PATIENCE) as link, secured(link, tls[1]) as safe:
                safe.sendall(head("/", "Connection: close"))
                assert safe.recv(100)
            scopes = server.app.scopes
        assert scopes[-1]["scheme"] == "https"
        for scope in scopes:
            assert scope["extensions"] == ({"quart_async_api.cancels": {}} if server.is_fast else {})
            scope["extensions"] = {}
            for end in ("client", "server"):
                scope[end] = scope[end] and (*scope[end][:1], type(scope[end][1]))
        found.append(scopes)
    assert found[0] == found[1] == found[2]


def secured(link: socket.socket, authority: trustme.CA, *protocols: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(link, server_hostname="localhost")


# What is Hypercorn's


def test_tls_without_http_2_keeps_its_connection(server: Served, tls: tuple[Path, trustme.CA]) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.tls), PATIENCE) as link,
        secured(link, tls[1], "http/1.1") as safe,
    ):
        for number in range(3):
            safe.sendall(head(f"/{number}"))
            received = b""
            while not received.endswith(b"]"):
                received += safe.recv(65536)
            assert answers(received)[0].echo == ("GET", f"/{number}", "")
        safe.sendall(head("/large", "Connection: close"))
        size = 0
        while data := safe.recv(65536):
            size += len(data)
        assert size > len(LARGE)


def test_a_tls_client_that_is_gone_cancels_its_handler(server: Served, tls: tuple[Path, trustme.CA]) -> None:
    with socket.create_connection(("127.0.0.1", server.tls), PATIENCE) as link, secured(link, tls[1]) as safe:
        safe.sendall(head("/slow"))
        assert server.app.begun.acquire(timeout=PATIENCE)
    assert server.app.left.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
def test_a_websocket_is_opened_with_every_byte(server: Served, split: bool) -> None:
    frame = bytes((0x81, 0x85, 0, 0, 0, 0)) + b"hello"
    with server.connected() as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(head("/"))
        assert link.recv(1000).startswith(b"HTTP/1.1 200 ")
        upgrade = head("/", *OPENING)
        for piece in [upgrade[at : at + 1] for at in range(len(upgrade))] if split else [upgrade]:
            link.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received:
            received += link.recv(1000)
        assert received.startswith(b"HTTP/1.1 101 ")
        link.sendall(frame)
        received = b""
        while len(received) < 7:
            received += link.recv(1000)
        assert received == b"\x81\x05hello"


def test_a_websocket_behind_empty_lines_is_opened(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(b"\r\n" + head("/", *OPENING))
        assert link.recv(1000).startswith(b"HTTP/1.1 101 ")


def test_a_websocket_of_a_client_that_has_half_closed_is_refused(fast: Served) -> None:
    with fast.connected() as link:
        link.sendall(head("/slow") + head("/", *OPENING))
        assert fast.app.begun.acquire(timeout=PATIENCE)
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100).startswith(b"HTTP/1.1 100 ")
        fast.app.release()
        assert [answer.status for answer in answers(until_closed(link))] == [200, 400]


# Limits and the stop


@pytest.mark.parametrize("kind", FAST)
def test_the_names_of_the_server_and_the_number_of_requests_are_those_of_hypercorns_options(kind: str) -> None:
    with served(kind, server_names=["localhost"], keep_alive_max_requests=3) as server:
        assert answers(server.exchange(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n"))[0].status == 404
        found = answers(server.exchange(head("/") * 5))
        assert len(found) == 3
        assert b"connection: close" in found[-1].head


def test_a_server_of_so_many_requests_ends_after_them() -> None:
    for kind in KINDS:
        if kind == "fast-asyncio":
            continue  # asyncio leaves a connection open that it accepts as it closes the listener
        with served(kind, max_requests=1) as server:
            for _ in range(3):
                with suppress(ConnectionError):
                    server.exchange(head("/", "Connection: close"))
            server.joined()
            assert 0 < len(server.app.seen) <= 3


@pytest.mark.parametrize("read_timeout", [None, 1])
def test_options_that_only_hypercorn_has_leave_it_all_to_hypercorn(read_timeout: int | None) -> None:
    with served("fast-uvloop", read_timeout=read_timeout) as server:
        server.exchange(head("/", "Connection: close"))
        assert bool(server.app.scopes[0]["extensions"]) == (read_timeout is None)


def test_a_stop_closes_idle_connections_and_lets_answers_end(server: Served) -> None:
    with (
        served(server.kind, graceful_timeout=PATIENCE) as stopped,
        stopped.connected() as idle,
        stopped.connected() as fresh,
        stopped.connected() as half,
        stopped.connected() as slow,
    ):
        idle.sendall(head("/"))
        answer = b""
        while not answer.endswith(b"]"):
            answer += idle.recv(1000)
        half.sendall(b"GET / HT")
        slow.sendall(head("/slow"))
        assert stopped.app.begun.acquire(timeout=PATIENCE)
        stopped.stop_later()
        assert until_closed(idle) == until_closed(half) == until_closed(fresh) == b""
        stopped.app.release()
        assert answers(until_closed(slow))[0].body == b"slow"
        stopped.joined()


def test_a_stop_waits_no_longer_than_it_may(server: Served) -> None:
    with served(server.kind, graceful_timeout=0.3) as stopped:
        with stopped.connected() as slow:
            slow.sendall(head("/slow"))
            assert stopped.app.begun.acquire(timeout=PATIENCE)
            stopped.stop()
        assert stopped.app.left.acquire(timeout=PATIENCE)
