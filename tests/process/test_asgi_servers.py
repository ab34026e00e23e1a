"""The ASGI app under the servers of others: one smoke test each."""

import json
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.process.conftest import HYPERCORN_TOML, assert_clean
from tests.process.wire import connection, get, head, post
from tests.server_process import PATIENCE, ServerProcess

pytestmark = pytest.mark.process

APP = "quart_async_api.asgi:app"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def wait_until_reached(port: int) -> None:
    """Granian says that it listens before it does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with connection(port):
                return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Other:
    """A server of somebody else: its command, how it says where it listens, and the code it ends with on SIGTERM."""

    command: tuple[str, ...]
    listens: str
    ends_with: int

    def start(self, database: Path) -> ServerProcess:
        # Granian does not tell which port it was given.
        command = [free_port() if part == "PORT" else part for part in self.command]
        # Nothing listens at port 9 (discard).
        settings = {
            "QAA_EXTERNAL_API_URL": "http://127.0.0.1:9/",
            "QAA_DATABASE_URL": f"sqlite://{database}",
            "QAA_DELAY": "0",
            "QAA_LOG_FORMAT": "json",
        }
        return ServerProcess(database.parent, settings, (sys.executable, "-m", *command), re.compile(self.listens))


OTHERS = {
    "hypercorn": Other(
        ("hypercorn", "-c", str(HYPERCORN_TOML), "--bind", "127.0.0.1:0", APP), r"Running on (http://[\d.:]+)", 0
    ),
    # Uvicorn stops in order, and then ends by the signal that it was sent.
    "uvicorn": Other(("uvicorn", "--port", "0", APP), r"running on (http://[\d.:]+)", -signal.SIGTERM),
    "granian": Other(("granian", "--interface", "asgi", "--port", "PORT", APP), r"Listening at: (http://[\d.:]+)", 0),
}


@pytest.fixture(params=OTHERS, scope="module")
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrated_file: Path
) -> Iterator[ServerProcess]:
    kind = OTHERS[request.param]
    database = tmp_path_factory.mktemp(request.param) / "app.db"
    with kind.start(Path(shutil.copy(migrated_file, database))) as server:
        wait_until_reached(server.port)
        yield server
        assert server.stop() == kind.ends_with, server.log
    assert_clean(server)


def test_the_same_app_serves_under_any_asgi_server(other: ServerProcess) -> None:
    port = other.port
    assert get(port, "/health/ready").status == HTTPStatus.OK
    assert "result" in get(port, "/get").json
    created = post(port, "/add-user", {"name": "Ada", "email": "ada@example.com"})
    assert created.status == HTTPStatus.CREATED, created
    assert get(port, created.headers["Location"]).json == created.json["user"]
    missing = get(port, "/nowhere")
    assert (missing.status, missing.problem) == (HTTPStatus.NOT_FOUND, "not-found")
    assert missing.headers["X-Request-ID"]


def test_the_lines_of_requests_and_of_the_audit_log_vanished_and_errors_had_no_time(other: ServerProcess) -> None:
    port = other.port
    job = post(port, "/jobs", {"task": "test"}).json
    get(port, "/lines")  # which no other test asks for: the line waited for comes after those of the job
    other.wait_for('"path": "/lines"')
    lines = [json.loads(line) for line in other.log.splitlines() if line.startswith('{"time": ')]
    assert [line["status"] for line in lines if line.get("path") == "/lines"] == [404]
    [audited] = [line for line in lines if line["logger"] == "quart_async_api.audit" and line["target"] == job["id"]]
    assert audited["action"] == "job.submit"
    assert get(port, "/external-api").status >= HTTPStatus.INTERNAL_SERVER_ERROR
    other.wait_for(r'{"time": "[^"]+", "level": "warning", "logger": "quart_async_api.http.problems"')


@pytest.mark.parametrize("other", ["hypercorn"], indirect=True)
def test_no_compression_is_agreed_to_under_hypercorns_own_command(other: ServerProcess) -> None:
    offer = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyEhIQ==",
        "Sec-WebSocket-Extensions: permessage-deflate",
    )
    with connection(other.port) as link:
        link.sendall(head("GET", "/jobs/1/ws", *offer))
        answer = link.recv(4096).partition(b"\r\n\r\n")[0].lower()
    assert answer.startswith(b"http/1.1 101 ")
    assert b"extensions" not in answer
