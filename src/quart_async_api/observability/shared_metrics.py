"""The folder in which the processes of one `serve` share their metrics: made, cleaned and removed by their supervisor.

The supervisor holds a lock on it, which ends with the process. The next one removes the folders of those that were killed.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the Prometheus client's own name
PLACE = "PROMETHEUS_MULTIPROC_PLACE"  # which names the files of a process instead of its pid

_PREFIX = "quart-async-api-locked-metrics-"  # older versions do not lock "quart-async-api-metrics-"
_YOUNG_SECONDS = 60.0  # in which the supervisor of a new folder locks it


def is_installed() -> bool:
    """Return whether the packages of the extra `observability` for metrics are there."""
    return find_spec("prometheus_client") is not None


@contextmanager
def shared(*, on: bool) -> Iterator[Path | None]:
    """Make the folder, unless the environment names one; None if metrics are off."""
    if not on or not is_installed():
        yield None
    elif FOLDER in os.environ:
        yield Path(os.environ[FOLDER])
    else:
        _remove_left()
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
            yield Path(folder)


def _remove_left() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is another user's, or in use, or its own supervisor removes it
            if time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                with _locked(folder):
                    shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises OSError if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def environment(folder: Path | None, place: str) -> dict[str, str]:
    """Return the environment of the process in this place."""
    return {} if folder is None else {FOLDER: str(folder), PLACE: place}


def forget(folder: Path | None, place: str) -> None:
    """Remove the gauges of a process that has ended. Its counters stay."""
    if folder is not None:
        for file in folder.glob(f"gauge_live*_{place}.db"):
            file.unlink(missing_ok=True)
