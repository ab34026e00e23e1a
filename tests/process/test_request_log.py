"""One line a request, on standard error: as text for a person, as JSON for a machine."""

import json
import re
import signal
from http import HTTPStatus
from typing import Any

import pytest

from tests.process.conftest import Start
from tests.process.wire import exchange, get, head, post
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

REQUEST_LINE = (
    r"(?m)^\d\d:\d\d:\d\d\.\d{3} \d+/[0-9a-f]{8} info    (\S+) (\S*) (\d{3}) (\d+\.\d) ms \[([0-9a-f]{32}|[\w-]+)\]$"
)


def requests(server: ServerProcess) -> list[tuple[str, ...]]:
    """Method, path, status and request id of every request line, once the server has stopped."""
    assert server.stop() == 0
    return [(match[1], match[2], match[3], match[5]) for match in re.finditer(REQUEST_LINE, server.log)]


def test_every_request_is_one_line_and_hypercorn_adds_none(start: Start) -> None:
    server = start()
    get(server.port, "/test?a=b", "X-Request-ID: mine-1")
    post(server.port, "/add-user", {"name": "Ada"})
    get(server.port, "/nowhere", "X-Request-ID: mine-2")
    found = requests(server)
    assert found[0] == ("GET", "/test", "200", "mine-1")
    assert found[1][:3] == ("POST", "/add-user", "422")
    assert found[2] == ("GET", "/nowhere", "404", "mine-2")
    assert len(found) == 3
    assert len(re.findall("(?:GET|POST) ", server.log)) == len(found)


HOSTILE = ("/a%0Ab", "/a%0D%0Ab", "/a%1b[2J", "/a%00", "/a%E2%80%A8b", "/a%C2%85b", "/a%FF")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_path_can_forge_a_line_or_drive_the_terminal(start: Start, form: str) -> None:
    server = start(QAA_LOG_FORMAT=form)
    for target in HOSTILE:
        assert exchange(server.port, head(target=target)).status == HTTPStatus.NOT_FOUND
    assert server.stop() == 0
    lines = server.log.splitlines()
    assert sum("GET /a" in line for line in lines) == len(HOSTILE)
    assert [line for line in lines if not line.isprintable()] == []
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line) for line in lines)


def test_as_json_every_line_of_the_log_is_an_object(start: Start) -> None:
    server = start(QAA_LOG_FORMAT="json", QAA_DRAIN_SECONDS="0.1", QAA_DELAY="30")
    created = post(server.port, "/add-user", {"name": "Ada", "email": "ada@example.com"})
    post(server.port, "/start-task", {})
    assert server.stop(signal.SIGINT) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in lines)
    assert len({line["worker"] for line in lines}) == 1
    [request] = [line for line in lines if line.get("path") == "/add-user"]
    assert (request["method"], request["status"]) == ("POST", 201)
    assert request["request_id"] == created.headers["X-Request-ID"]
    assert isinstance(request["ms"], float)
    assert "listens on" in lines[0]["message"]
    assert lines[-1]["message"] == "stopped"


def test_a_caller_cannot_write_into_the_log_by_its_request_id(start: Start) -> None:
    server = start()
    answered = get(server.port, "/test", "X-Request-ID: a b").headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", answered)
    assert requests(server)[0][3] == answered
