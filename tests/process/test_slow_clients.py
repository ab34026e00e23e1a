"""Clients that send, or read, as slowly as they can: none holds its connection for long, much memory, or anybody up."""

import base64
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import CHECKOUT, Start, assert_clean, serve
from tests.process.wire import Reply, connection, get, head, is_closed, post, receive
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

PATIENCE = 60.0  # a busy machine takes long for some of the floods
MIB = 1024 * 1024
IMPATIENT = {"QAA_HEADER_TIMEOUT": "1", "QAA_BODY_TIMEOUT": "1", "QAA_SEND_TIMEOUT": "1", "QAA_DRAIN_SECONDS": "1"}
LOUD = {"QAA_TASKS": "tests.process.job_tasks", "PYTHONPATH": str(CHECKOUT), "QAA_JOB_LOG_MAX_BYTES": str(100 * MIB)}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[ServerProcess]:
    with serve(tmp_path_factory.mktemp("impatient"), migrated_file, **IMPATIENT, **LOUD) as server:
        yield server
        assert server.stop() == 0, server.log
    assert_clean(server)


@pytest.fixture
def sockets() -> Iterator[Callable[[ServerProcess, int, bytes], list[socket.socket]]]:
    """Connections on which this was sent; small buffers, so that what is not read stays with the server."""
    with ExitStack() as stack:

        def opened(server: ServerProcess, count: int, sent: bytes) -> list[socket.socket]:
            links = []
            for _ in range(count):
                link = stack.enter_context(socket.socket())
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                link.settimeout(PATIENCE)
                link.connect(("127.0.0.1", server.port))
                link.sendall(sent)
                links.append(link)
            return links

        yield opened


Sockets = Callable[[ServerProcess, int, bytes], list[socket.socket]]


def drip(links: Sequence[socket.socket], byte: bytes) -> Iterator[socket.socket]:
    """Send a byte on each now and then; each, once the server has something to say on it."""
    waiting = list(links)
    ends = time.monotonic() + PATIENCE
    while waiting:
        assert time.monotonic() < ends, f"{len(waiting)} slow clients are still there"
        heard, _, _ = select.select(waiting, [], [], 0.1)
        for link in waiting:
            if link not in heard:
                with suppress(ConnectionError):
                    link.send(byte)
        waiting = [link for link in waiting if link not in heard]
        yield from heard


def until(condition: Callable[[], bool], server: ServerProcess) -> None:
    """Ask for other things, which are answered, until it is so."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        assert get(server.port, "/test").json == {"result": 1}


def memory(server: ServerProcess) -> int:
    assert server.url  # it has started
    return int(psutil.Process(server.pid).memory_info().rss)


def connections(server: ServerProcess) -> int:
    return sum(link.status == psutil.CONN_ESTABLISHED for link in psutil.Process(server.pid).net_connections("tcp"))


def test_heads_that_never_end_are_cut_off(impatient: ServerProcess, sockets: Sockets) -> None:
    links = sockets(impatient, 200, head()[:-2] + b"X-Slow: ")
    assert get(impatient.port, "/test").json == {"result": 1}
    for link in drip(links, b"a"):
        assert is_closed(link)


def test_bodies_that_never_end_are_timed_out(impatient: ServerProcess, sockets: Sockets) -> None:
    links = sockets(impatient, 50, head("POST", "/add-user", "Content-Type: application/json", "Content-Length: 1000"))
    assert get(impatient.port, "/test").json == {"result": 1}
    for link in drip(links, b" "):
        reply = receive(link, "POST")
        assert (reply.status, reply.problem) == (HTTPStatus.REQUEST_TIMEOUT, "request-timeout")


def loud_job(server: ServerProcess, folder: Path) -> tuple[Reply, Path]:
    """A job that tells its watchers more than any buffer holds, and then waits at a gate."""
    gate = folder / "gate"
    os.mkfifo(gate)
    return post(server.port, "/jobs", {"task": "loud", "args": {"gate": str(gate)}}), gate


def test_who_never_reads_a_stream_is_cut_off(impatient: ServerProcess, sockets: Sockets, tmp_path: Path) -> None:
    before = memory(impatient)
    sockets(impatient, 50, head("GET", "/jobs/events"))
    until(lambda: connections(impatient) >= 50, impatient)
    job, gate = loud_job(impatient, tmp_path)
    until(lambda: connections(impatient) < 50, impatient)
    until(lambda: connections(impatient) == 0, impatient)
    assert memory(impatient) - before < 40 * MIB  # each was told 10 MB
    gate.write_bytes(b"")
    monitor = job.json["links"]["self"]
    until(lambda: get(impatient.port, monitor).json["status"] == "succeeded", impatient)

    for link in sockets(impatient, 50, head("GET", job.json["links"]["result"])):
        with suppress(ConnectionError):  # cut off by now
            assert link.recv(1, socket.MSG_PEEK)  # the answer has begun
    until(lambda: connections(impatient) == 0, impatient)


def test_who_never_reads_a_stream_holds_no_stop(start: Start, sockets: Sockets, tmp_path: Path) -> None:
    server = start(**LOUD, QAA_DRAIN_SECONDS="1")
    before = memory(server)
    sockets(server, 50, head("GET", "/jobs/events"))
    until(lambda: connections(server) >= 50, server)
    job, _ = loud_job(server, tmp_path)
    events = f"{job.json['links']['self']}/events"
    with connection(server.port) as reader:  # who does read gets all of it
        reader.sendall(head("GET", events))
        seen = 0
        while seen < 9 * MIB:
            seen += len(reader.recv(MIB))
    assert memory(server) - before < 40 * MIB
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 20  # the server lets a client read nothing for a minute


def upgrade(target: str) -> bytes:
    key = base64.b64encode(b"sixteen bytes!!!").decode()
    fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    return head("GET", target, *fields)


def frame(opcode: int, payload: bytes, *, final: bool) -> bytes:
    """RFC 6455 section 5.2, masked with nothing."""
    length = bytes((len(payload),)) if len(payload) < 126 else b"\x7f" + struct.pack(">Q", len(payload))
    return bytes((final << 7 | opcode, 0x80 | length[0])) + length[1:] + bytes(4) + payload


TEXT, MORE, CLOSE = 1, 0, 8


def test_a_message_without_an_end_is_not_kept(impatient: ServerProcess) -> None:
    job = post(impatient.port, "/jobs", {"task": "test", "args": {}, "delay": 3600}).json
    before = memory(impatient)
    with connection(impatient.port) as link:
        link.sendall(upgrade(f"/jobs/{job['id']}/ws"))
        assert link.recv(1, socket.MSG_PEEK)  # it is accepted
        for opcode in (TEXT, MORE):
            link.sendall(frame(opcode, b"a" * MIB, final=False))
        received = b""
        while struct.pack(">BBH", 0x80 | CLOSE, 2, 1009) not in received:
            received += (data := link.recv(MIB))
            assert data
        with suppress(ConnectionError):  # the server waits 2 s for the client to stop
            for _ in range(100):
                link.sendall(frame(MORE, b"a" * MIB, final=False))
        assert memory(impatient) - before < 20 * MIB


def test_messages_are_not_read_faster_than_their_answers_are(impatient: ServerProcess, sockets: Sockets) -> None:
    job = post(impatient.port, "/jobs", {"task": "test", "args": {}, "delay": 3600}).json
    before = memory(impatient)
    [link] = sockets(impatient, 1, upgrade(f"/jobs/{job['id']}/ws"))
    assert link.recv(1, socket.MSG_PEEK)  # it is accepted
    nonsense = frame(TEXT, b"nonsense", final=True) * 10_000_000
    with pytest.raises(ConnectionError):  # the server stops reading, and cuts it off in the end
        link.sendall(nonsense)
    assert memory(impatient) - before < 20 * MIB
