"""What clients may send on a socket, and what it gets them; the server outlives all of it."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.process.conftest import assert_clean, serve
from tests.process.wire import connection, exchange, get, head, is_closed, receive
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

KIB = 1024


@pytest.fixture(autouse=True)
def _the_server_lives(server: ServerProcess) -> Iterator[None]:
    yield
    assert get(server.port, "/health/live").status == HTTPStatus.OK


# Host


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"],
)
def test_a_name_that_is_not_ours_is_misdirected(server: ServerProcess, host: str) -> None:
    reply = exchange(server.port, head(host=host))
    assert (reply.status, reply.problem) == (HTTPStatus.MISDIRECTED_REQUEST, "misdirected-request")


@pytest.mark.parametrize(
    "host", ["localhost@evil.example", "[::1]evil.com", "localhost:80@evil.com", "a..b", "a" * 64, "\xff"]
)
def test_what_is_no_host_is_bad(server: ServerProcess, host: str) -> None:
    reply = exchange(server.port, head(host=host))
    assert (reply.status, reply.problem) == (HTTPStatus.BAD_REQUEST, "bad-request")


def test_a_control_character_in_a_host_is_bad(server: ServerProcess) -> None:
    assert (
        exchange(server.port, head(host="\x7f")).status == HTTPStatus.BAD_REQUEST
    )  # no problem: nothing of the head counts


def test_bytes_past_ascii_in_a_target_are_bad(server: ServerProcess) -> None:
    for target in ("/\xff", "/users?a=\xff", "http://localhost/\xff"):
        assert exchange(server.port, head(target=target)).status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_the_names_of_this_machine_are_answered(server: ServerProcess, host: str) -> None:
    assert exchange(server.port, head(host=host)).status == HTTPStatus.OK


def test_the_absolute_form_of_a_target_is_answered(server: ServerProcess) -> None:
    assert exchange(server.port, head(target="http://localhost/health/live")).status == HTTPStatus.OK


def test_the_host_in_a_target_goes_before_the_header(server: ServerProcess) -> None:
    reply = exchange(server.port, head(target="http://evil.example/users"))
    assert (reply.status, reply.problem) == (HTTPStatus.MISDIRECTED_REQUEST, "misdirected-request")


@pytest.mark.parametrize(
    "target", ["http://[x", "http://localhost", "?number=1", "*", "//", "/%", "/%00", "/..", "/%2e%2e/x"]
)
def test_an_odd_target_is_answered_and_never_a_fault(server: ServerProcess, target: str) -> None:
    assert exchange(server.port, head(target=target)).status < HTTPStatus.INTERNAL_SERVER_ERROR


def test_a_request_without_a_host_is_bad(server: ServerProcess) -> None:
    assert exchange(server.port, head(host=None)).status == HTTPStatus.BAD_REQUEST


def test_an_empty_host_is_misdirected(server: ServerProcess) -> None:
    assert exchange(server.port, head(host="")).status == HTTPStatus.MISDIRECTED_REQUEST


def test_two_hosts_are_bad(server: ServerProcess) -> None:
    assert exchange(server.port, head("GET", "/health/live", "Host: localhost")).status == HTTPStatus.BAD_REQUEST


def test_http_1_0_with_a_host_is_answered(server: ServerProcess) -> None:
    with connection(server.port) as link:
        link.sendall(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert receive(link).status == HTTPStatus.OK
        assert is_closed(link)


def test_http_1_0_without_a_host_is_refused(server: ServerProcess) -> None:
    reply = exchange(server.port, b"GET /health/live HTTP/1.0\r\n\r\n")
    assert reply.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.MISDIRECTED_REQUEST)


def test_no_answer_names_its_server(server: ServerProcess) -> None:
    for target in ("/health/live", "/nowhere", "/"):
        assert get(server.port, target).headers["Server"] is None


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[ServerProcess]:
    """One that listens on every address, for anyone."""
    folder = tmp_path_factory.mktemp("open")
    with serve(folder, migrated_file, bind="0.0.0.0:0", QAA_ALLOW_ANONYMOUS="1") as server:
        yield server
        assert server.stop() == 0
    assert_clean(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_what_is_open_on_purpose_is_reached_at_any_address(open_server: ServerProcess, host: str) -> None:
    port = open_server.port
    assert exchange(port, head("GET", "/users", host=f"{host}:{port}"), host).json == []
    assert exchange(port, head("GET", "/users", host="evil.example"), host).problem == "misdirected-request"


# Bodies


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/get"), ("POST", "/add-user"), ("GET", "/nowhere"), ("PUT", "/get")]
)
def test_a_body_that_says_it_is_too_long_is_refused_unread(server: ServerProcess, method: str, target: str) -> None:
    reply = exchange(server.port, head(method, target, f"Content-Length: {KIB**3}", "Expect: 100-continue"))
    assert (reply.status, reply.problem) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "content-too-large")


@pytest.mark.parametrize(("method", "target"), [("GET", "/get"), ("POST", "/add-user")])
def test_a_body_that_turns_out_too_long_is_refused(server: ServerProcess, method: str, target: str) -> None:
    chunk = b"%x\r\n%s\r\n" % (64 * KIB, b"a" * 64 * KIB)
    request = head(method, target, "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk * 32
    reply = exchange(server.port, request + b"0\r\n\r\n")
    assert (reply.status, reply.problem) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "content-too-large")


def test_a_small_body_that_nobody_wants_is_no_mistake(server: ServerProcess) -> None:
    assert exchange(server.port, head("GET", "/test", "Content-Length: 2") + b"{}").json == {"result": 1}


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: -1",), ("Content-Length: x",), ("Content-Length: 1", "Content-Length: 2"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"), ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: identity",),
    ],
)  # fmt: skip
def test_a_body_of_doubtful_length_is_never_a_fault(server: ServerProcess, fields: tuple[str, ...]) -> None:
    with connection(server.port) as link:
        link.sendall(head("POST", "/add-user", "Content-Type: application/json", *fields) + b"{}")
        link.shutdown(socket.SHUT_WR)
        is_closed(link)


@pytest.mark.parametrize("chunk", [b"zz\r\n{}\r\n", b"-1\r\n{}\r\n", b"ffffffffffffffffff\r\n{}\r\n"])
def test_chunks_that_are_none_are_never_a_fault(server: ServerProcess, chunk: bytes) -> None:
    request = head("POST", "/add-user", "Content-Type: application/json", "Transfer-Encoding: chunked") + chunk
    with connection(server.port) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        is_closed(link)


# Heads


@pytest.mark.parametrize(
    "fields",
    [tuple(f"X-{number}: value" for number in range(8000)), ("X-Long: " + "a" * 200 * KIB,)],
    ids=["8000 fields", "200 KiB"],
)
def test_a_head_beyond_all_measure_is_refused(server: ServerProcess, fields: tuple[str, ...]) -> None:
    reply = exchange(server.port, head("GET", "/health/live", *fields))
    assert reply.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


@pytest.mark.parametrize("size", [17 * KIB, 60 * KIB])
def test_a_head_of_more_than_16_kib_is_refused_with_a_problem(server: ServerProcess, size: int) -> None:
    reply = exchange(server.port, head("GET", "/health/live", "X-Long: " + "a" * size))
    assert (reply.status, reply.problem) == (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header-fields-too-large")


def test_a_query_of_more_than_8_kib_is_refused_with_a_problem(server: ServerProcess) -> None:
    reply = get(server.port, "/health/live?" + "a" * 9 * KIB)
    assert (reply.status, reply.problem) == (HTTPStatus.REQUEST_URI_TOO_LONG, "uri-too-long")


def test_a_head_of_more_than_64_kib_is_refused_while_it_comes(server: ServerProcess) -> None:
    with connection(server.port) as link:
        link.sendall(head()[:-2] + b"X-Long: " + b"a" * 65 * KIB)
        assert receive(link).status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


@pytest.mark.parametrize("data", [b"\0" * 1000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"\r\n" * 100])
def test_what_is_not_http_is_never_a_fault(server: ServerProcess, data: bytes) -> None:
    with connection(server.port) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        assert not link.recv(100).startswith(b"HTTP/1.1 5")


def test_slow_clients_keep_nobody_waiting(server: ServerProcess) -> None:
    with ExitStack() as stack:
        for sent in (head()[:-10], head("POST", "/add-user", "Content-Length: 100") + b"{"):
            for _ in range(50):
                stack.enter_context(connection(server.port)).sendall(sent)
        assert get(server.port, "/test").json == {"result": 1}


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    with connection(server.port) as link:
        link.sendall(head("GET", "/test") + head("GET", "/nowhere") + head("GET", "/health/live", "Connection: close"))
        answers = b"".join(iter(lambda: link.recv(64 * KIB), b""))
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


# HTTP/2


@pytest.mark.parametrize("more", [b"", b"SM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))])
def test_http_2_without_tls_is_refused_at_once(server: ServerProcess, more: bytes) -> None:
    with connection(server.port) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\n" + more)
        assert receive(link).status == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        assert is_closed(link)


def test_an_upgrade_to_http_2_without_tls_is_ignored(server: ServerProcess) -> None:
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert get(server.port, "/test", *fields).json == {"result": 1}
