"""What is started, and how: this service and its peers, each on the server's core with a database of its own."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .machine import ROOT, SERVER_CORE, cpu_seconds, on_core, resident_bytes
from .rounds import NoFigure

USERS = 1_000
_PEERS = ROOT / "benchmarks" / "peers"
_PATIENCE = 300.0


class CannotStart(NoFigure):
    """A contender did not come to its first answer."""


def environment(name: str) -> str:
    """The Python of a peers' environment. Raises CannotStart: installing it has failed."""
    python = ROOT / "build" / f"bench-env-{name}" / "bin" / "python"
    if not python.is_file():
        raise CannotStart(f"benchmarks/peers/{name}.txt is not installed: `make bench` installs it")
    return str(python)


@dataclass(frozen=True, slots=True)
class Server:
    """A command with PORT in place of the port."""

    name: str
    settings: str  # that it runs with, for the page
    command: tuple[str, ...]
    kind: str = "peer"  # or "ours": whose tables its database has
    ready: str = "/constant"
    environ: dict[str, str] = field(default_factory=dict, hash=False)
    env: str = ""  # the peers' environment that it runs in; this one by default

    @property
    def shown(self) -> str:
        """The settings with the command, for the page."""
        variables = "".join(f"{name}={value} " for name, value in self.environ.items())
        return f"{self.settings}: `{variables}python -m {' '.join(self.command)}`"


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    port: int
    process: psutil.Process
    log: Path

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process)

    def resident_bytes(self) -> int:
        return resident_bytes(self.process)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def started(server: Server, folder: Path) -> Iterator[Running]:
    """The server, once it answers. Its database is a copy of the one of its kind in `folder`. Raises CannotStart."""
    python = environment(server.env) if server.env else sys.executable
    name = "".join(letter if letter.isalnum() else "-" for letter in server.name)
    own, log, port = folder / f"{name}.db", folder / f"{name}.log", free_port()
    if (template := folder / f"{server.kind}.db").is_file():
        shutil.copy(template, own)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("QAA_", "DATABASE_URL"))}
    variables = {
        "BENCH_DATABASE": str(own),
        "PYTHONPATH": str(_PEERS if server.kind == "peer" else ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if server.kind == "ours":
        variables |= {"QAA_DATABASE_URL": f"sqlite://{own}", "QAA_LOG_LEVEL": "warning", "QAA_DRAIN_SECONDS": "0"}
    command = [python, "-m", *(part.replace("PORT", str(port)) for part in server.command)]
    with (
        log.open("w") as output,
        on_core(SERVER_CORE),
        subprocess.Popen(
            command, cwd=folder, env=inherited | variables | server.environ, stdout=output, stderr=output
        ) as process,
    ):
        running = Running(server.name, port, psutil.Process(process.pid), log)
        try:
            _wait_until_ready(running, server.ready, process)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(running: Running, path: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _PATIENCE
    while not answers(running.url + path):
        if process.poll() is not None or time.monotonic() > until:
            lines = running.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise CannotStart(f"exit code {process.poll()}: {lines[-1][:200]}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  a loopback address
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_databases(folder: Path, users: int = USERS) -> None:
    """One of each kind in `folder`, with the same users."""
    rows = [(f"User {number}", f"user{number}@example.com") for number in range(1, users + 1)]
    ours = folder / "ours.db"
    program = [sys.executable, "-m", "quart_async_api", "migrate"]
    environ = os.environ | {"QAA_DATABASE_URL": f"sqlite://{ours}"}
    subprocess.run(program, cwd=folder, env=environ, check=True, capture_output=True)
    with contextlib.closing(sqlite3.connect(ours)) as database, database:
        keyed = ((name, email, email) for name, email in rows)
        database.executemany("INSERT INTO users (name, email, email_key) VALUES (?, ?, ?)", keyed)
    with contextlib.closing(sqlite3.connect(folder / "peer.db")) as database, database:
        database.execute(
            "CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name VARCHAR(50) NOT NULL, "
            "email VARCHAR(100) NOT NULL UNIQUE)"
        )
        database.executemany("INSERT INTO users (name, email) VALUES (?, ?)", rows)
