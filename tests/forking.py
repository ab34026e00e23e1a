"""The program in a process of its own, forked from one that has imported it: the imports take longer than most tests.

The command line is that of `python -m quart_async_api`, with an environment, a folder and outputs of its own, and it ends as
it would. A test of what comes before, as the imports, starts the interpreter itself.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_PACKAGE = "quart_async_api"
PROGRAM = (sys.executable, "-m", _PACKAGE)


class Forked:
    """`python -m quart_async_api` with these arguments, leader of a session; a `subprocess.Popen` as far as it goes."""

    def __init__(
        self,
        arguments: Sequence[str | bytes | Path],
        folder: Path,
        environment: Mapping[str, str],
        files: Sequence[int],
    ) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_nursery(), [b"."], [theirs.fileno(), *files])
        asked = [[os.fsdecode(each) for each in arguments], str(folder), dict(environment)]
        self._link.sendall(json.dumps(asked).encode() + b"\n")
        self.pid = int(self._read())
        self.returncode: int | None = None

    def _read(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            received = self._link.recv(1)
            assert received, "the process that forks has ended"
            line += received
        return line

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._link], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(_PACKAGE, timeout or 0)
            self.returncode = int(self._read())
            self._link.close()  # until now, its id was not given to another
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def start(
    command: Sequence[str | bytes | Path], folder: Path, environment: Mapping[str, str], files: tuple[int, int, int]
) -> Forked | subprocess.Popen[bytes]:
    """Start the command as the leader of a session with `files` as its input and outputs; the program, by forking."""
    if tuple(command[:3]) == PROGRAM and "LD_PRELOAD" not in environment:  # which only a process started anew reads
        return Forked(command[3:], folder, environment, files)
    stdin, stdout, stderr = files
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )


@cache
def _nursery() -> socket.socket:
    """Where the process that forks is asked to; it ends with this one."""
    ours, theirs = socket.socketpair()
    # -P: the names of the modules that stand beside this one are taken.
    command = (sys.executable, "-P", __file__, str(theirs.fileno()))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork_until_the_end(asked: socket.socket) -> None:
    """Returns in each process that is to run the program, and not before the end in the one that forks."""
    while descriptors := socket.recv_fds(asked, 1, 4)[1]:
        if not os.fork():
            asked.close()
            return _watch_over_a_child(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    sys.exit()


def _watch_over_a_child(link_descriptor: int, *files: int) -> None:
    """Fork once more: here its exit code is waited for, there this returns."""
    link = socket.socket(fileno=link_descriptor)
    if pid := os.fork():
        for file in files:
            os.close(file)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        with suppress(OSError):  # nobody waits for it
            link.sendall(f"{code}\n".encode())
            link.recv(1)
        os.waitpid(pid, 0)
        os._exit(0)
    os.setsid()
    with link, link.makefile() as asked:
        arguments, folder, environment = json.loads(asked.readline())
        link.sendall(f"{os.getpid()}\n".encode())
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _import() -> None:
    import psycopg_pool  # noqa: F401
    import tortoise.backends.psycopg.client
    import tortoise.backends.sqlite.client  # noqa: F401

    from quart_async_api.app import create_app
    from quart_async_api.commands import connected, jobs_watch, main  # noqa: F401
    from quart_async_api.server import runner  # noqa: F401
    from quart_async_api.settings import Settings
    from quart_async_api.web.files import load_templates

    load_templates(create_app(Settings()))  # takes most of a start; each child has what is compiled here
    gc.collect()
    gc.freeze()  # else each child would touch, and so copy, all of it


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, and this with it
    _import()
    _fork_until_the_end(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(_PACKAGE, run_name="__main__", alter_sys=True)
