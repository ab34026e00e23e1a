"""An API process that is killed when its commit has reached PostgreSQL, and before its client hears of it."""

import signal
import socket
from http import HTTPStatus
from pathlib import Path

import httpx
import psycopg
import pytest

from quart_async_api.client import Client
from quart_async_api.settings import JobsEngine
from tests.postgresql import of_psycopg
from tests.process.relay import Relay
from tests.server_process import PROGRAM, ServerProcess

pytestmark = pytest.mark.process
SUBMISSION = {"task": "mock-db", "args": {}}
KEY = {"Idempotency-Key": "sent-twice"}


class _Killing(Relay):
    """Kills `process` instead of passing on that a transaction with a new job is committed."""

    process: ServerProcess | None = None
    _inserts: socket.socket | None = None  # the connection of the server on which a job was inserted

    def passes(self, data: bytes, source: socket.socket, target: socket.socket) -> bool:
        if self.process is not None and b"INSERT INTO jobs " in data:
            self._inserts = target
        if self.process is None or source is not self._inserts or b"COMMIT\0" not in data:
            return True
        self.process.send(signal.SIGKILL)
        return False


@pytest.mark.parametrize("engine", JobsEngine)
def test_a_client_that_lost_its_answer_with_the_process_gets_the_same_job_from_another(
    tmp_path: Path, distributed_postgresql: str, engine: JobsEngine
) -> None:
    settings = {"QAA_JOBS_ENGINE": engine.value, "QAA_DELAY": "0"}
    serve = (*PROGRAM, "serve", "--bind", "127.0.0.1:0")
    with (
        _Killing(distributed_postgresql) as relay,
        ServerProcess(tmp_path, {**settings, "QAA_DATABASE_URL": relay.url}, serve) as killed,
        ServerProcess(tmp_path, {**settings, "QAA_DATABASE_URL": distributed_postgresql}, serve) as other,
        psycopg.connect(of_psycopg(distributed_postgresql)) as connection,
    ):
        assert killed.url
        assert other.url
        relay.process = killed
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{killed.url}/jobs", json=SUBMISSION, headers=KEY)
        assert killed.wait() == -signal.SIGKILL
        [[job]] = connection.execute("SELECT id FROM jobs").fetchall()
        again = httpx.post(f"{other.url}/jobs", json=SUBMISSION, headers=KEY)
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (HTTPStatus.ACCEPTED, "true")
        assert again.json()["id"] == job
        with Client(other.url) as client:
            assert client.wait(job, timeout=60).status == "succeeded"
        assert connection.execute("SELECT COUNT(*) FROM jobs").fetchone() == (1,)
        assert connection.execute("SELECT unfinished, jobs FROM job_usage").fetchall() == [(0, 1)]
