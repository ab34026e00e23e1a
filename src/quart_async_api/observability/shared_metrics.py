"""The folder in which the processes of one `serve` share their metrics: made, cleaned and removed by their supervisor."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the Prometheus client's own name
PLACE = "PROMETHEUS_MULTIPROC_PLACE"  # which names the files of a process instead of its pid


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
        with tempfile.TemporaryDirectory(prefix="quart-async-api-metrics-") as folder:
            yield Path(folder)


def environment(folder: Path | None, place: str) -> dict[str, str]:
    """Return the environment of the process in this place."""
    return {} if folder is None else {FOLDER: str(folder), PLACE: place}


def forget(folder: Path | None, place: str) -> None:
    """Remove the gauges of a process that has ended. Its counters stay."""
    if folder is not None:
        for file in folder.glob(f"gauge_live*_{place}.db"):
            file.unlink(missing_ok=True)
