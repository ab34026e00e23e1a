"""Watching goes on where it was cut."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx
import pytest

from quart_async_api.client import Client, Event
from tests.client.conftest import WORKLOAD, Connect
from tests.process.conftest import serve
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process


@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM])
def test_a_watch_goes_on_over_a_restart_of_the_server(
    connect: Connect, tmp_path: Path, migrated_file: Path, signal: int
) -> None:
    """Nothing is told twice and nothing is left out, though the job itself has to run again."""
    gate = tmp_path / "gate"
    settings = {**WORKLOAD, "QAA_DRAIN_SECONDS": "0.2"}
    with serve(tmp_path, migrated_file, **settings) as first:
        client = connect(first.url)
        job = client.submit("gated", {"gate": str(gate)}, delay=0.3)
        events: list[Event] = []
        watching = client.watch(job)
        for event in watching:
            events.append(event)
            if event.name == "log":
                break
        first.stop(SIGKILL if signal == SIGKILL else SIGTERM)
        with serve(tmp_path, migrated_file, bind=f"127.0.0.1:{first.port}", **settings) as second:
            assert second.port == first.port
            for event in watching:
                events.append(event)
                if event.name == "log":
                    gate.touch()
            assert second.stop() == 0
    names = [event.name for event in events]
    assert names.count("snapshot") == names.count("succeeded") == 1
    assert names.count("log") == 2
    assert names[-1] == "succeeded"
    numbers = [int(str(event.id).rpartition(":")[2]) for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if signal == SIGKILL:
        assert "retry" in names


class _UntilSnapshot(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        got = b""
        for chunk in self._stream:
            got += chunk
            start = got.find(b"event: snapshot")
            if start >= 0 and (end := got.find(b"\n\n", start)) >= 0:
                yield got[: end + 2]
                raise httpx.ReadError("cut")

    def close(self) -> None:
        self._stream.close()


class CutsAfterSnapshot(httpx.HTTPTransport):
    """The first stream of events ends after its first event."""

    cuts = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith("/events") and not self.cuts:
            self.cuts += 1
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = _UntilSnapshot(response.stream)
        return response


def test_an_end_that_was_missed_is_told_all_the_same(server: ServerProcess) -> None:
    """The snapshot of a job that has ended has the id of its end: the service answers a resume after it with 204."""
    with Client(server.url, transport=CutsAfterSnapshot()) as client:
        job = client.wait(client.submit("echo", {"value": 5}))
        events = list(client.watch(job))
        assert [event.name for event in events] == ["snapshot", "succeeded"]
        assert events[-1].job is not None
        assert events[-1].job.result == 5
