"""Which processes look for work at a wake-up."""

import asyncio
import random

import pytest

from quart_async_api.jobs import wake_ups
from quart_async_api.jobs.wake_ups import WakeUps


async def looks_of(processes: int, heard: int) -> tuple[int, int]:
    """How often one of so many processes looks for work: at once, and within a moment of the last wake-up."""
    looked = asyncio.Event()
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        looked.set()

    wake = WakeUps(lambda: processes - 1, look, random.Random(1))  # noqa: S311
    for _ in range(heard):
        wake.heard()
    at_once = looks
    looked.clear()
    if at_once < heard:
        await looked.wait()
    return at_once, looks - at_once


async def test_few_processes_all_look_at_once() -> None:
    assert await looks_of(processes=wake_ups.AT_ONCE, heard=100) == (100, 0)


async def test_of_many_processes_some_look_at_once_and_the_rest_once_for_all_wake_ups_of_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wake_ups, "LATER_SECONDS", 0.001)
    at_once, later = await looks_of(processes=64, heard=1000)
    assert 60 < at_once < 200  # about 8 of 64
    assert later == 1
