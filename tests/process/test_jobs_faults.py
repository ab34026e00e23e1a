"""Durable jobs of real servers whose loop is blocked, whose clients hang up, and whose database fails under them."""

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import psutil
import pytest

from tests.process.conftest import Start
from tests.process.test_hang_ups import settled
from tests.process.test_jobs_crash import (
    start_traced,
    statuses,
    submit,
    traces,
    wait_until_all_ended,
)
from tests.process.wire import Reply, connection, exchange, get, head, json_request, post, receive
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

MIB = 1024**2
CLIENTS = 2000
AT_ONCE = 250
NO_OP = {"task": "where", "args": {}}


class Gate:
    """A named pipe at which a task waits. Entering waits until it does, leaving lets it go on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)

    @contextmanager
    def closed(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            yield
        finally:
            os.close(descriptor)


def rows(file: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query, values).fetchall()


def result(server: ServerProcess, job: str) -> Reply:
    reply = get(server.port, f"/jobs/{job}", "Prefer: wait=30")
    assert (reply.status, reply.json["status"]) == (HTTPStatus.OK, "succeeded"), reply
    return reply


def assert_refused(server: ServerProcess) -> None:
    refuses(post(server.port, "/jobs", NO_OP))


def refuses(reply: Reply) -> None:
    assert (reply.status, reply.problem) == (HTTPStatus.SERVICE_UNAVAILABLE, "database-unavailable"), reply
    assert int(reply.headers["Retry-After"]) >= 1


# The event loop blocked longer than a lease


def test_a_process_whose_loop_is_blocked_loses_its_jobs_and_cannot_write_them_any_more(
    start: Start, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    blocked = start_traced(start, QAA_LEASE_SECONDS="0.6")
    job = submit(blocked, "blocking", folder=str(tmp_path), gate=str(gate.path))
    with gate.closed():
        other = start_traced(start, QAA_LEASE_SECONDS="0.6")
        before = result(other, job).json
        assert (before["attempt"], before["result"]) == (2, other.pid)
    blocked.wait_for("sent no heartbeat for longer than its lease")

    # It has joined again: alone, it runs what is submitted.
    assert other.stop() == 0, other.log
    assert result(blocked, submit(blocked, "where")).json["result"] == blocked.pid
    assert get(blocked.port, "/health/ready").status == HTTPStatus.OK
    assert get(blocked.port, f"/jobs/{job}").json == before
    assert blocked.stop() == 0, blocked.log

    # The late run came to its end and to a result of its own, of which nothing was written.
    assert traces(tmp_path)[job] == [(1, "began"), (2, "began"), (2, "ended"), (1, "ended")]
    file = tmp_path / "app.db"
    assert rows(file, "SELECT status, result, attempt FROM jobs WHERE id = ?", job) == [
        ("succeeded", str(other.pid), 2)
    ]
    ends = rows(
        file, "SELECT name FROM job_events WHERE job_id = ? AND name IN ('succeeded', 'failed', 'cancelled')", job
    )
    assert ends == [("succeeded",)]
    assert rows(file, "SELECT number, outcome FROM job_attempts WHERE job_id = ? ORDER BY number", job) == [
        (1, "crashed"),
        (2, "succeeded"),
    ]
    assert rows(file, "SELECT * FROM workers") == []


# Clients that hang up


def final(request: bytes) -> bytes:
    """The same, on a connection that the server itself closes: one that was answered in full would stay a while else."""
    return request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def hang_up(server: ServerProcess, watched: str) -> set[str]:
    """AT_ONCE clients of every kind leave in the middle. The jobs whose 202 reached one of them."""
    submission = final(json_request("/jobs", NO_OP))
    requests = (
        head("GET", "/test"),
        head("GET", f"/jobs/{watched}/events"),
        head("GET", f"/jobs/{watched}", "Prefer: wait=600"),
        final(json_request("/jobs", {**NO_OP, "delay": 0.01})),
        submission,
    )
    accepted = set()
    with ExitStack() as stack:
        links = []
        for number in range(AT_ONCE):
            request = requests[number % len(requests)]
            link = stack.enter_context(connection(server.port))
            link.sendall(request)
            links.append((link, request))
        streams = [link for link, request in links if b"/events" in request]
        assert b" 200 " in streams[-1].recv(100)
        for number, (link, request) in enumerate(links):
            if request is submission and number % 2:
                reply = receive(link, "POST")
                assert reply.status == HTTPStatus.ACCEPTED, reply
                accepted.add(str(reply.json["id"]))
    return accepted


def test_two_thousand_clients_that_hang_up_lose_no_job_and_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    server = start_traced(start, QAA_DELAY="600")
    watched = submit(server, "once-more")
    process = psutil.Process(server.pid)
    get(server.port, "/health/ready")
    descriptors = process.num_fds()

    accepted = hang_up(server, watched)
    hang_up(server, watched)
    server.wait_for("GET /test 499 ", 2 * AT_ONCE // 5)
    assert settled(process, descriptors + 5)
    threads, memory = process.num_threads(), process.memory_info().rss

    for _ in range(CLIENTS // AT_ONCE):
        accepted |= hang_up(server, watched)
        assert settled(process, descriptors + 5)
    server.wait_for("GET /test 499 ", (CLIENTS + 2 * AT_ONCE) // 5)

    assert process.num_threads() <= threads + 8  # the executor's, which are made as they are needed and kept
    assert process.memory_info().rss < memory + 20 * MIB

    assert exchange(server.port, head("DELETE", f"/jobs/{watched}")).status in (HTTPStatus.OK, HTTPStatus.ACCEPTED)
    ended = wait_until_all_ended(tmp_path)
    assert ended.pop(watched) == "cancelled"
    assert set(ended.values()) == {"succeeded"}
    assert len(accepted) == (CLIENTS + AT_ONCE) // 10
    assert accepted <= set(ended)
    assert not re.search(r" 5\d\d [\d.]+ ms", server.log)
    assert server.stop() == 0, server.log
    assert "unfinished" not in server.log


# The database locked by another process


def test_a_database_that_is_locked_refuses_submissions_and_works_when_it_is_free_again(
    start: Start, tmp_path: Path
) -> None:
    file, gate = tmp_path / "app.db", Gate(tmp_path)
    server = start_traced(start, QAA_DATABASE_URL=f"sqlite://{file}?timeout=0.3")
    running = submit(server, "gated", gate=str(gate.path))
    with closing(sqlite3.connect(file, isolation_level=None)) as locker:
        with gate.closed():
            locker.execute("BEGIN EXCLUSIVE")
            for _ in range(3):
                assert_refused(server)
        server.wait_for(f"the outcome of job {running} waits")
        assert_refused(server)
        assert rows(file, "SELECT id, status FROM jobs") == [(running, "running")]
        locker.execute("ROLLBACK")

    assert result(server, running).json["result"] == "passed"
    after = submit(server, "where")
    assert result(server, after).json["result"] == server.pid
    assert statuses(tmp_path) == {running: "succeeded", after: "succeeded"}
    assert server.stop() == 0, server.log


# The database's file removed


@pytest.mark.parametrize("also", [(), ("app.db-wal", "app.db-shm")], ids=["file", "file and log"])
def test_a_database_whose_file_is_gone_refuses_everything_and_works_when_it_is_back(
    start: Start, tmp_path: Path, also: tuple[str, ...]
) -> None:
    gate = Gate(tmp_path)
    names = ("app.db", *also)
    server = start_traced(start)
    before = submit(server, "where")
    result(server, before)
    running = submit(server, "gated", gate=str(gate.path))
    away = tmp_path / "away"
    away.mkdir()
    with gate.closed():
        for name in names:
            (tmp_path / name).rename(away / name)
        assert_refused(server)
        assert get(server.port, "/health/ready").status == HTTPStatus.SERVICE_UNAVAILABLE
        refuses(get(server.port, f"/jobs/{before}"))
    server.wait_for(f"the outcome of job {running} waits")
    assert_refused(server)
    assert not (tmp_path / "app.db").exists()
    assert get(server.port, "/health/live").status == HTTPStatus.OK

    for name in reversed(names):
        (away / name).rename(tmp_path / name)
    assert result(server, running).json["result"] == "passed"
    assert get(server.port, "/health/ready").status == HTTPStatus.OK
    after = submit(server, "where")
    result(server, after)
    assert statuses(tmp_path) == dict.fromkeys((before, running, after), "succeeded")
    assert server.stop() == 0, server.log


# The disk full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until there is no room for another byte."""
    with file.open("wb", buffering=0) as filler:
        for size in (65_536, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017


def test_a_full_disk_refuses_submissions_and_is_forgotten_when_there_is_room_again(
    start: Start, small_disk: Path, migrated_file: Path, tmp_path: Path
) -> None:
    file, filler, gate = small_disk / "app.db", small_disk / "filler", Gate(tmp_path)
    shutil.copy(migrated_file, file)
    server = start_traced(start, QAA_DATABASE_URL=f"sqlite://{file}")
    running = submit(server, "gated", gate=str(gate.path))
    accepted = {running}
    with gate.closed():
        fill(filler)
        deadline = time.monotonic() + 60
        refused = 0
        while refused < 3:  # what the log had taken already, it may use again
            reply = post(server.port, "/jobs", {"task": "traced", "args": {"folder": "x" * 4000, "seconds": 0}})
            if reply.status == HTTPStatus.ACCEPTED:
                accepted.add(str(reply.json["id"]))
            else:
                refuses(reply)
                refused += 1
            assert time.monotonic() < deadline
        assert {job for (job,) in rows(file, "SELECT id FROM jobs")} == accepted
    server.wait_for(f"the outcome of job {running} waits")
    assert get(server.port, "/health/live").status == HTTPStatus.OK

    filler.unlink()
    assert result(server, running).json["result"] == "passed"
    after = submit(server, "where")
    assert result(server, after).json["result"] == server.pid
    accepted.add(after)
    for job in accepted:
        assert get(server.port, f"/jobs/{job}", "Prefer: wait=30").json["status"] in ("succeeded", "failed")
    assert {job for (job,) in rows(file, "SELECT id FROM jobs")} == accepted
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]
    assert server.stop() == 0, server.log
