"""Part `start`: from the command to the first answer, memory when idle, and how long `--help` takes."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from . import http
from .figures import Part
from .machine import ROOT, SERVER_CORE, Guard, on_core
from .rounds import Turn, alternate
from .servers import Server, make_databases, started

ANSWER, HELP = "start", "--help"
SERVERS = tuple(server for server in http.SERVERS if server.name in (http.OURS, http.FASTAPI))
_SETTLED = 1.0  # seconds after the first answer, when memory is looked at


def measure(rounds: int = 5, servers: tuple[Server, ...] = SERVERS, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "start",
        "Start",
        f"{rounds} rounds; memory is resident, {_SETTLED:g} s after the first answer.",
        settings={server.name: server.shown for server in servers},
    )
    guard = Guard(rounds)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        make_databases(Path(name))
        turns: dict[str, Turn] = {server.name: partial(_start, server, Path(name)) for server in servers}
        part.rows[ANSWER] = alternate(turns, rounds, guard, part.missing)
    part.rows[HELP] = alternate({http.OURS: _help}, rounds, guard, part.missing)
    for row, contenders in part.rows.items():
        for contender, found in contenders.items():
            say(f"{row:12}{contender:28}" + "".join(f"{median(values):10.3g} {unit}" for unit, values in found.items()))
    return part.finish(guard)


def _start(server: Server, folder: Path) -> dict[str, float]:
    began = time.monotonic()
    with started(server, folder) as there:
        seconds = time.monotonic() - began
        time.sleep(_SETTLED)
        return {
            "seconds to the first answer": seconds,
            "MB when idle": there.resident_bytes() / 1024**2,
            "CPU s": there.cpu_seconds(),
        }


def _help() -> dict[str, float]:
    began = time.monotonic()
    with on_core(SERVER_CORE):
        command = [sys.executable, "-m", "quart_async_api", "--help"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.monotonic() - began}
