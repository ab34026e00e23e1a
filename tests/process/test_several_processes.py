"""`serve --processes`: one socket, several processes, and each of them may die."""

import itertools
import json
import os
import re
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from quart_async_api.client import Client
from tests.process.conftest import assert_clean
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process

LISTENS = re.compile(r"listens on (http://\S+),")


def serve(folder: Path, database: Path) -> ServerProcess:
    settings = {"QAA_DATABASE_URL": f"sqlite://{database}", "QAA_DELAY": "0.5"}
    return ServerProcess(folder, settings, (*PROGRAM, "serve", "--bind", "127.0.0.1:0", "--processes", "2"))


@pytest.fixture
def server(tmp_path: Path, database_file: Path) -> Iterator[ServerProcess]:
    with serve(tmp_path, database_file) as server:
        server.wait_for(LISTENS, 2)
        yield server
    assert_clean(server)


def children(server: ServerProcess) -> list[int]:
    return [child.pid for child in psutil.Process(server.pid).children()]


def test_they_share_one_socket_and_one_database_and_drain_together(server: ServerProcess, database_file: Path) -> None:
    assert len(children(server)) == 2
    assert len(set(LISTENS.findall(server.log))) == 1
    with Client(server.url) as client:
        jobs = [client.submit("test") for _ in range(20)]
        assert {job.attempt for job in map(client.wait, jobs)} == {1}
    assert server.stop() == 0
    assert server.log.count("info    stopped") == 2
    assert server.log.count("runs as root") == (os.geteuid() == 0)
    with closing(sqlite3.connect(database_file)) as database:
        rows = database.execute("SELECT process, figures FROM figures").fetchall()
    figures = [json.loads(text) for _, text in rows]
    assert len({process for process, _ in rows}) == 2
    assert sum(len(minute.get("started", ())) for minute in figures) == 2
    assert sum(minute.get("submitted", 0) for minute in figures) == 20
    assert sum(minute.get("succeeded", 0) for minute in figures) == 20
    assert sum(minute.get("requests", [0] * 5)[1] for minute in figures) >= 40


def test_they_end_with_their_supervisor_however_it_ends(server: ServerProcess) -> None:
    processes = psutil.Process(server.pid).children()
    server.send(signal.SIGKILL)
    gone, alive = psutil.wait_procs(processes, timeout=60)
    assert (len(gone), alive) == (2, [])
    server.wait_for("info    stopped", 2)


def test_a_hang_up_signal_replaces_them_one_by_one_and_no_request_notices(server: ServerProcess) -> None:
    before = set(children(server))
    server.send(signal.SIGHUP)
    asked = 0
    while "replaced all processes" not in server.log:
        assert httpx.get(f"{server.url}/test", timeout=60).status_code == 200
        asked += 1
    assert asked > 0
    assert len(children(server)) == 2
    assert before.isdisjoint(children(server))
    assert server.stop() == 0


def test_what_keeps_them_from_starting_is_said_once(tmp_path: Path) -> None:
    with serve(tmp_path, tmp_path / "missing.db") as server:
        assert server.wait() == 1
        assert server.log.count("\n") == 1
        assert server.log.startswith("error: there is no database ")


def test_one_that_dies_is_replaced_while_the_other_serves_and_any_answers_for_the_metrics_of_all(
    server: ServerProcess,
) -> None:
    with httpx.Client() as client:
        one = client.get(f"{server.url}/health/ready").json()  # one connection stays with one process
        for _ in range(3):
            assert client.get(f"{server.url}/health/live").status_code == 200
    assert one["status"] == "pass"
    pattern = re.compile(
        r'qaa_http_request_duration_seconds_count{method="GET",route="/health/live",status="200"} (\S+)'
    )
    for _ in range(10):  # the kernel picks a process for each connection
        [count] = pattern.findall(httpx.get(f"{server.url}/metrics").text)
        assert float(count) == 3
    first, second = children(server)
    os.kill(first, signal.SIGKILL)
    server.wait_for(f"process {first} ended with -9; a new process replaces it")
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    server.wait_for(LISTENS, 3)
    assert len({first, second, *children(server)}) == 3
    os.kill(second, signal.SIGKILL)
    server.wait_for(f"process {second} ended with -9; a new process replaces it")
    server.wait_for(LISTENS, 4)
    text = httpx.get(f"{server.url}/metrics").text
    assert [float(count) for count in pattern.findall(text)] == [3]
    assert "\nqaa_job_slots_free 200.0\n" in text or "\nqaa_job_slots_free 100.0\n" in text  # of living processes alone
    assert server.stop(signal.SIGINT) == 0


def test_no_room_for_a_new_process_ended_the_whole_service(server: ServerProcess) -> None:
    first, second = children(server)
    before, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(number) for number in os.listdir(f"/proc/{server.pid}/fd")}
    _, beyond = itertools.islice((number for number in itertools.count() if number not in taken), 2)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (beyond, most))  # one free, to look into a folder
    os.kill(first, signal.SIGKILL)
    server.wait_for("cannot start a process: .*Too many open files", 2)
    server.send(signal.SIGHUP)
    server.wait_for("a new process ended before it served; the old processes stay")
    assert children(server) == [second]
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (before, most))
    server.wait_for(LISTENS, 3)
    assert len({first, second, *children(server)}) == 3
    assert server.stop() == 0
