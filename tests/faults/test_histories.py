"""Three servers on one database are killed, paused and stopped while clients use them: every rule of history.py holds.

A failure says its seed, and keeps the history, with the logs of the servers, in build/histories.
"""

import asyncio
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.cluster import make_history
from tests.faults.history import breaches

pytestmark = pytest.mark.process
KEPT = Path(__file__).parents[2] / "build" / "histories"


def keeps_its_promises(folder: Path, database_url: str, seed: int, seconds: float) -> None:
    history = asyncio.run(make_history(folder, database_url, seed, seconds))
    if found := breaches(history):
        KEPT.mkdir(parents=True, exist_ok=True)
        kept = shutil.copy(folder / "history.json", KEPT / f"{seed}-{time.time():.0f}.json")
        pytest.fail(f"seed {seed}, history in {kept}: {found}")
    happened = Counter(fault.what for fault in history.faults)
    assert min(happened[what] for what in ("kill", "pause", "terminate")) > 0, happened
    assert len(history.jobs) > seconds, "the clients did next to nothing"


def test_every_promise_about_jobs_is_kept_while_processes_are_killed_paused_and_stopped(
    tmp_path: Path, backend: str
) -> None:
    keeps_its_promises(tmp_path, backend, 1, 6)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_promise_about_jobs_is_kept_for_ten_minutes_of_faults(tmp_path: Path, backend: str) -> None:
    keeps_its_promises(tmp_path, backend, random.SystemRandom().randrange(1_000_000), 600)
