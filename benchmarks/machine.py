"""The machine: which core serves and which one loads it, whether it was quiet, and the versions of what ran."""

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]  # the same where there is one only
ALL_CORES = tuple(_CORES)
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def on_core(*cores: int) -> Iterator[None]:
    """Processes that are started here run on `cores` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process with its descendants, those that have ended included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process with its descendants."""
    return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of CPU since the machine started: of all processes with what the host stole, and of this benchmark's own."""

    everyone: float
    ours: float
    passed: float  # seconds of all cores together

    def disturbance_since(self, before: "Usage") -> float:
        """The share of all cores that others have had: 0 on a quiet machine."""
        others = (self.everyone - before.everyone) - (self.ours - before.ours)
        return max(0.0, others / (self.passed - before.passed)) if self.passed > before.passed else 0.0


def usage() -> Usage:
    """Interrupts are left out: they are part of the load, and belong to no process."""
    with Path("/proc/stat").open() as file:
        user, nice, system, idle, wait, interrupt, soft, steal = map(int, file.readline().split()[1:9])
    everyone = user + nice + system + steal
    return Usage(everyone / _TICKS, cpu_seconds(psutil.Process()), (everyone + idle + wait + interrupt + soft) / _TICKS)


class Guard:
    """Repeats a turn during which the machine was not quiet, as long as there are repeats to spare."""

    LIMIT = 0.05  # of all cores

    def __init__(self, spare: int, look: Callable[[], Usage] = usage) -> None:
        self.spare, self.thrown_away, self.kept_noisy = spare, 0, 0
        self._look = look

    def quiet(self, turn: Callable[[], T]) -> T:
        """The outcome of a quiet turn, or of the quietest of those that there was time for."""
        tried: list[tuple[float, T]] = []
        while True:
            before = self._look()
            outcome = turn()
            tried.append((self._look().disturbance_since(before), outcome))
            if tried[-1][0] <= self.LIMIT:
                break
            if not self.spare:
                self.kept_noisy += 1
                break
            self.spare -= 1
        self.thrown_away += len(tried) - 1
        return min(tried, key=lambda one: one[0])[1]


_PACKAGES = (
    "aiohttp", "aiosqlite", "blacksheep", "dbos", "fastapi", "flask", "granian", "gunicorn", "httptools", "httpx", "huey",
    "hypercorn", "litestar", "msgspec", "orjson", "procrastinate", "psycopg", "pydantic", "quart", "redis", "saq",
    "taskiq", "tortoise-orm", "uvicorn", "uvloop",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Of Python, SQLite, the programs, and each package, with those of the peers' environments where they differ."""
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version, "Linux": platform.release()}
    found |= {name: _version(name, option) for name, option in (("wrk", "-v"), ("redis-server", "--version"))}
    environments = sorted((ROOT / "build").glob("bench-env-*/lib/python*/site-packages"))
    for name in _PACKAGES:
        there = [one.version for one in importlib.metadata.distributions(name=name)]
        for folder in environments:
            there += [one.version for one in importlib.metadata.distributions(name=name, path=[str(folder)])]
        if there:
            found[name] = ", ".join(dict.fromkeys(there))
    return found


def _version(program: str, option: str) -> str:
    if not shutil.which(program):
        return "not installed"
    output = subprocess.run([program, option], capture_output=True, text=True, check=False)
    words = (output.stdout + output.stderr).split()
    return next((word for word in words if any(letter.isdigit() for letter in word)), "unknown").removeprefix("v=")


def description() -> dict[str, str]:
    with Path("/proc/cpuinfo").open() as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    memory = f"{psutil.virtual_memory().total / 1024**3:.0f} GB"
    return {"processor": model, "cores": str(len(_CORES)), "memory": memory} | versions()
