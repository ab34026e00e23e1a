"""Few open files: one client does not take them all, and what is refused is logged."""

import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import assert_clean
from tests.process.wire import connection, head, is_closed, json_request, receive
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

LIMIT = 200
OTHER = "127.0.0.2"  # another client's address


@pytest.fixture
def poor(tmp_path: Path, migrated_file: Path) -> Iterator[ServerProcess]:
    """A server that may have LIMIT files open, half of that before it raises its own limit."""
    shutil.copy(migrated_file, tmp_path / "app.db")
    environment = {"QAA_DATABASE_URL": f"sqlite://{tmp_path}/app.db", "QAA_DELAY": "0", "QAA_HEADER_TIMEOUT": "3600"}
    limited = f'ulimit -Sn {LIMIT // 2}; ulimit -Hn {LIMIT}; exec "$0" "$@"'
    command = ("sh", "-c", limited, *PROGRAM, "serve", "--bind", "127.0.0.1:0")
    with ServerProcess(tmp_path, environment, command) as server:
        yield server
        assert server.stop() == 0
    assert_clean(server)


def test_one_client_that_opens_all_it_can_keeps_no_other_out_and_is_logged_once(poor: ServerProcess) -> None:
    port = poor.port
    assert psutil.Process(poor.pid).rlimit(resource.RLIMIT_NOFILE) == (LIMIT, LIMIT)
    with ExitStack() as stack:
        links = [stack.enter_context(connection(port)) for _ in range(LIMIT + 20)]
        poor.wait_for("refused 1 connections: 127.0.0.1 has ")
        refused = 0
        for link in reversed(links):  # the last ones came too late
            link.settimeout(1)
            try:
                refused += link.recv(12) in (b"HTTP/1.1 503", b"")
            except TimeoutError:
                break
            except ConnectionResetError:
                refused += 1
        assert refused > LIMIT // 2
        with socket.create_connection(("127.0.0.1", port), 15, source_address=(OTHER, 0)) as link:
            link.sendall(json_request("/add-user", {"name": "Ada", "email": "ada@example.com"}))
            assert receive(link).status == 201
        assert poor.log.count("refused") <= 2
        assert psutil.Process(poor.pid).num_fds() < LIMIT


def test_a_client_that_has_closed_holds_no_file(poor: ServerProcess) -> None:
    for _ in range(LIMIT * 2):
        with connection(poor.port) as link:
            link.sendall(head())
            assert receive(link).status == 200
            link.shutdown(socket.SHUT_WR)
            assert is_closed(link)
    assert "refused" not in poor.log
