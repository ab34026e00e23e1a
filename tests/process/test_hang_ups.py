"""Clients that hang up in the middle: nobody waits for what they wanted, and nothing of them stays."""

import re
import socket
import struct
import time
from contextlib import ExitStack
from http import HTTPStatus

import psutil
import pytest

from tests.process.conftest import Start
from tests.process.wire import connection, get, head, json_request
from tests.server_process import PATIENCE, ServerProcess

pytestmark = pytest.mark.process

CLIENTS = 150
MIB = 1024**2


def hang_up(server: ServerProcess, requests: list[bytes]) -> None:
    """Send each on a connection of its own, and close them all once the server has begun to handle them."""
    with ExitStack() as stack:
        for request in requests:
            stack.enter_context(connection(server.port)).sendall(request)
        get(server.port, "/tasks")


def settled(process: psutil.Process, descriptors: int) -> bool:
    """Wait until the process holds no more than so many descriptors; there is no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while process.num_fds() > descriptors and time.monotonic() < deadline:
        time.sleep(0.05)
    return process.num_fds() <= descriptors


def test_every_wait_whose_client_hung_up_is_ended_and_logged_as_499(start: Start) -> None:
    server = start(QAA_DELAY="600")
    hang_up(server, [head("GET", "/test")] * CLIENTS)
    server.wait_for(r"GET /test 499 ", CLIENTS)
    assert server.stop() == 0
    assert "unfinished" not in server.log


def test_writes_whose_clients_hung_up_leave_a_database_that_works(start: Start) -> None:
    server = start()

    def requests(batch: int) -> list[bytes]:
        people = ({"name": "Ada", "email": f"{batch}-{number}@example.com"} for number in range(CLIENTS))
        return [json_request("/add-user", person) for person in people]

    hang_up(server, requests(1))
    for request in requests(2):
        with connection(server.port) as link:
            link.sendall(request)
    server.wait_for(r"POST /add-user (201|499) ", 2 * CLIENTS)
    assert not re.search(r"POST /add-user 5\d\d", server.log)
    told = server.log.count("POST /add-user 201 ")
    users = get(server.port, "/users?limit=1000").json
    assert told <= len(users) <= 2 * CLIENTS
    assert get(server.port, "/health/ready").status == HTTPStatus.OK


def test_clients_that_hung_up_leave_no_descriptor_and_no_memory_behind(start: Start) -> None:
    server = start(QAA_DELAY="600")
    get(server.port, "/health/ready")
    process = psutil.Process(server.pid)
    descriptors = process.num_fds()
    memory: list[int] = []
    for batch in range(1, 5):
        hang_up(server, [head("GET", "/test")] * CLIENTS)
        server.wait_for(r"GET /test 499 ", batch * CLIENTS)
        assert settled(process, descriptors + 5)
        memory.append(process.memory_info().rss)
    assert memory[-1] - memory[1] < 8 * MIB


PLACES = 12  # for streams
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


def is_streaming(link: socket.socket) -> bool:
    """Whether a stream has begun on this connection; else its request was refused."""
    link.sendall(head("GET", "/jobs/events"))
    return link.recv(64).startswith(b"HTTP/1.1 200")


def test_streams_that_were_reset_within_milliseconds_kept_their_places_for_ever(start: Start) -> None:
    server = start(QAA_MAX_STREAMS=f"{PLACES}", QAA_RATE_LIMIT="off")
    for batch in range(60):
        with ExitStack() as stack:
            for _ in range(PLACES - 2):
                link = stack.enter_context(connection(server.port))
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                link.sendall(head("GET", "/jobs/events"))
            time.sleep(batch % 6 / 2000)
        get(server.port, "/health/live")
    deadline = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        opened = 0
        while opened < PLACES and time.monotonic() < deadline:  # those that were reset last may end a moment later
            opened += is_streaming(stack.enter_context(connection(server.port)))
    assert opened == PLACES
    assert server.stop() == 0
