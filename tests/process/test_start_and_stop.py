"""`quart-async-api serve` from its start line to its exit code."""

import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

import pytest

from quart_async_api import __version__
from tests.process.conftest import Start
from tests.process.wire import Reply, connection, get, head, post, receive
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

PROMPTLY = 30.0  # seconds, on a busy machine: less than what a stop that waits for it would take
STREAMS = 3000
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def running(server: ServerProcess, request: bytes) -> Iterator[socket.socket]:
    """A connection whose request the server has begun to handle."""
    with connection(server.port) as link:
        link.sendall(request)
        get(server.port, "/tasks")  # came later, is answered: the other one has begun
        yield link


def drain(server: ServerProcess) -> None:
    server.send(signal.SIGTERM)
    server.wait_for("shutting down: new work is refused")


def test_the_start_line_names_the_version_the_address_the_process_and_the_database(server: ServerProcess) -> None:
    line = server.wait_for(r".*listens on.*").group()
    version, url, pid = re.escape(__version__), r"http://127\.0\.0\.1:\d+", server.pid
    assert re.search(rf"quart-async-api {version} listens on {url}, pid {pid}, database sqlite:///\S+/app\.db$", line)


def test_a_request_sent_as_soon_as_the_start_line_is_written_is_answered(start: Start) -> None:
    assert get(start().port, "/health/ready").status == HTTPStatus.OK


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_server_stops_promptly_and_well(start: Start, number: signal.Signals) -> None:
    server = start(QAA_DRAIN_SECONDS="120")
    assert get(server.port, "/test").status == HTTPStatus.OK
    assert server.stop(number, PROMPTLY) == 0
    assert server.log.rstrip().endswith("stopped")


def keep_alive(link: socket.socket) -> None:
    link.sendall(head())
    receive(link)


def half_a_head(link: socket.socket) -> None:
    link.sendall(head()[:-10])


def half_a_body(link: socket.socket) -> None:
    link.sendall(head("POST", "/add-user", "Content-Type: application/json", "Content-Length: 100") + b'{"name":')


def nothing(link: socket.socket) -> None:
    pass


@pytest.mark.parametrize("sends", [nothing, keep_alive, half_a_head, half_a_body], ids=lambda sends: sends.__name__)
def test_connections_on_which_nothing_comes_do_not_hold_the_stop(
    start: Start, sends: Callable[[socket.socket], None]
) -> None:
    server = start(QAA_DRAIN_SECONDS="120", QAA_HEADER_TIMEOUT="120", QAA_BODY_TIMEOUT="120")
    with ExitStack() as stack:
        links = [stack.enter_context(connection(server.port)) for _ in range(3)]
        for link in links:
            sends(link)
        get(server.port, "/health/live")
        assert server.stop(seconds=PROMPTLY) == 0


def test_a_client_that_does_not_read_its_answers_holds_the_stop_no_longer_than_a_drain(start: Start) -> None:
    server = start(QAA_DRAIN_SECONDS="0.5")
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", server.port))
        link.settimeout(0.2)
        with suppress(TimeoutError):  # once the server reads no more either
            while True:
                link.sendall(head("GET", "/openapi.json") * 100)
        assert server.stop(seconds=PROMPTLY) == 0


def test_a_second_signal_changes_nothing(start: Start) -> None:
    server = start(QAA_DELAY="0.6")
    with running(server, head("GET", "/test")) as link:
        drain(server)
        server.send(signal.SIGTERM)
        server.send(signal.SIGINT)
        assert receive(link).json == {"result": 1}
    assert server.wait() == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_call_that_runs_is_answered_before_the_stop(start: Start, number: signal.Signals) -> None:
    server = start(QAA_DELAY="0.8", QAA_DRAIN_SECONDS="120")
    with running(server, head("GET", "/test")) as link:
        server.send(number)
        reply = receive(link)
    assert (reply.status, reply.json) == (HTTPStatus.OK, {"result": 1})
    assert server.wait(PROMPTLY) == 0


def test_a_call_that_outlasts_the_drain_is_told_to_try_again(start: Start) -> None:
    server = start(QAA_DELAY="300", QAA_DRAIN_SECONDS="0.5")
    with running(server, head("GET", "/test")) as link:
        drain(server)
        reply = receive(link)
        assert server.wait(PROMPTLY) == 0
    assert (reply.status, reply.problem) == (HTTPStatus.SERVICE_UNAVAILABLE, "shutting-down")
    assert int(reply.headers["Retry-After"]) > 0


def test_hundreds_of_calls_that_outlast_the_drain_are_all_told(start: Start) -> None:
    server = start(QAA_DELAY="300", QAA_DRAIN_SECONDS="0.5")
    with ExitStack() as stack:
        links = [stack.enter_context(connection(server.port)) for _ in range(300)]
        for link in links:
            link.sendall(head("GET", "/test"))
        get(server.port, "/health/live")
        drain(server)
        assert {receive(link).problem for link in links} == {"shutting-down"}
    assert server.wait() == 0


def test_a_server_of_thousands_of_streams_was_ended_by_force(start: Start) -> None:
    server = start(QAA_DRAIN_SECONDS="0.5", QAA_DELAY="300", QAA_MAX_CONNECTIONS_PER_ADDRESS="10000")
    running_job(server)  # so that the drain takes its time
    with ExitStack() as stack:
        links = [stack.enter_context(connection(server.port)) for _ in range(STREAMS)]
        for link in links:
            link.sendall(head("GET", "/jobs/events"))
        for link in links:
            assert link.recv(12) == b"HTTP/1.1 200"
        assert server.stop() == 0
    assert server.log.rstrip().endswith("stopped")


def test_while_it_drains_it_takes_no_new_work_and_answers_the_rest(start: Start) -> None:
    server = start(QAA_DELAY="4")  # for which the drain lasts: longer than ten requests on a busy machine

    def refused(reply: Reply) -> bool:
        return reply.problem == "shutting-down" and "Retry-After" in reply.headers

    with running(server, head("GET", "/test")) as link:
        drain(server)
        for route in ("/test", "/get", "/gather", "/mock-db", "/start-task"):
            assert refused(get(server.port, route)), route
        assert refused(post(server.port, "/start-task", {}))
        assert get(server.port, "/users").json == []
        assert get(server.port, "/health/live").status == HTTPStatus.OK
        ready = get(server.port, "/health/ready")
        assert (ready.status, ready.problem) == (HTTPStatus.SERVICE_UNAVAILABLE, "not-ready")
        assert receive(link).status == HTTPStatus.OK
    assert server.wait(PROMPTLY) == 0


def running_job(server: ServerProcess) -> str:
    job: str = post(server.port, "/start-task", {}).json["job"]["id"]
    while get(server.port, f"/jobs/{job}").json["status"] != "running":
        pass
    return job


def test_a_job_that_runs_is_finished_before_the_stop(start: Start) -> None:
    server = start(QAA_DELAY="0.8")
    job = running_job(server)
    assert server.stop() == 0
    assert server.log.index("Background task completed") < server.log.index(" stopped")
    after = get(start().port, f"/jobs/{job}").json
    assert (after["status"], after["attempt"], after["result"]) == (
        "succeeded",
        1,
        {"message": "Background task completed"},
    )


def test_a_job_that_outlasts_the_drain_is_given_back_and_run_after_the_restart(start: Start) -> None:
    server = start(QAA_DELAY="300", QAA_DRAIN_SECONDS="0.5")
    job = running_job(server)
    drain(server)
    assert server.wait(PROMPTLY) == 0
    assert "Background task completed" not in server.log
    after = get(start().port, f"/jobs/{job}", "Prefer: wait=30").json
    assert (after["status"], after["attempt"]) == ("succeeded", 1)


def test_users_written_until_the_stop_are_all_there_after_it(start: Start) -> None:
    server = start()
    port, written, stopping = server.port, list[str](), threading.Event()

    def write(writer: int) -> None:
        for number in range(10_000):
            email = f"{writer}-{number}@example.com"
            try:
                reply = post(port, "/add-user", {"name": "Writer", "email": email})
            except OSError:
                return
            assert reply.status == HTTPStatus.CREATED, reply
            written.append(email)
            if len(written) > 20:
                stopping.set()

    with ThreadPoolExecutor() as pool:
        writers: list[Future[None]] = [pool.submit(write, writer) for writer in range(4)]
        assert stopping.wait(PROMPTLY)
        assert server.stop() == 0
    for writer in writers:
        writer.result()
    kept = {user["email"] for user in get(start().port, "/users?limit=1000").json}
    assert kept.issuperset(written)
