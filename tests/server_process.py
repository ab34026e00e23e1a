"""A server as its users run it: a process of its own, watched through its log and stopped by signals."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from tests.forking import PROGRAM as PROGRAM
from tests.forking import start
from tests.secrets import in_the_open

LISTENS = re.compile(r"listens on (http://\S+),")
PATIENCE = 120.0
# Of this run of the tests, for every server: QAA_HTTP1=hypercorn make test
CHOSEN = {name: os.environ[name] for name in ("QAA_HTTP1",) if name in os.environ}


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with `settings` in place of whatever settings it has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QAA_", "DATABASE_URL"))}
    return {**kept, **CHOSEN, **settings}


def run(
    command: Sequence[str | bytes | Path],
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    typed: str = "",
    timeout: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raises subprocess.TimeoutExpired."""
    with TemporaryFile("w+") as given, TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        given.write(typed)
        given.seek(0)
        files = given.fileno(), output.fileno(), errors.fileno()
        process = start(command, folder, environment(**(settings or {})), files)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read(), errors.read())


class ServerProcess:
    """A server from its start until it is stopped; by default `quart-async-api serve` on a free port.

    `listens` finds the server's URL in its log. Leaving the context kills what is left of it and its children.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        command: Sequence[str | Path] = (*PROGRAM, "serve", "--bind", "127.0.0.1:0"),
        listens: re.Pattern[str] = LISTENS,
    ) -> None:
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        reads, writes = os.pipe()
        self._output = os.fdopen(reads, encoding="utf-8", errors="backslashreplace")
        try:
            with Path(os.devnull).open() as nothing:
                files = nothing.fileno(), writes, writes
                self._process = start(command, folder, environment(**settings), files)
        finally:
            os.close(writes)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listens = listens

    def _read(self) -> None:
        for line in self._output:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """All that the process has written so far, on both of its outputs."""
        return "".join(self._lines)

    @property
    def url(self) -> str:
        """Where it listens; waits for it to say so."""
        return self.wait_for(self._listens).group(1)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def wait_for(self, pattern: str | re.Pattern[str], count: int = 1) -> re.Match[str]:
        """The `count`th place in the log, now or later, that matches `pattern`. Fails when the process ends without."""

        def found() -> re.Match[str] | None:
            return next(
                (match for number, match in enumerate(re.finditer(pattern, self.log), 1) if number == count), None
            )

        self._wait_until(lambda: bool(found()) or self._ended, f"{pattern!r} in the log")
        match = found()
        assert match, f"the process ended without {pattern!r} in its log:\n{self.log}"
        return match

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), f"no {what} after {PATIENCE:g} s:\n{self.log}"

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code, negative for a signal, once the process has ended and its log is complete."""
        code = self._process.wait(seconds)
        self._reader.join(PATIENCE)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send the signal and wait for the exit code."""
        self.send(number)
        return self.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)
        self._output.close()
        assert not in_the_open(self.log)
