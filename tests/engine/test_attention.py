"""Trouble that no error shows is noticed: in the log once, and for as long as it lasts where an operator looks."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from quart_async_api.services.attention import GROWTH_JOBS, GROWTH_LOOKS, KNOWN_AFTER, Kind, is_growing

from .conftest import Make, Service, until
from .sample_tasks import gate, running


@pytest.fixture
def backend(database_file: Path) -> str:
    return f"sqlite://{database_file}"


def told(caplog: pytest.LogCaptureFixture, kind: Kind) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if vars(record).get("trouble") == kind.value]


async def test_a_job_that_ran_ten_times_its_usual_time_was_noticed_by_nobody(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gate("open").set()
    for _ in range(KNOWN_AFTER):
        await service.run("hold", name="open")
    job = await service.submit("hold", name="shut")
    await until(lambda: job.id in running)
    await service.attention.look()
    assert service.attention.troubles == {}
    service.clock.ahead = timedelta(hours=1)
    for _ in range(2):
        await service.attention.look()
        assert service.attention.troubles[Kind.LONG_RUN].startswith("a job of task hold has run for 3600 s")
    [line] = told(caplog, Kind.LONG_RUN)
    assert (line["job_id"], line["task"]) == (job.id, "hold")
    gate("shut").set()
    await service.wait(job)


async def test_a_schedule_that_missed_its_minute_was_noticed_by_nobody(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    service = await make(engine=False)
    await service.scheduler.fire()
    await service.attention.look()
    assert service.attention.troubles == {}
    service.clock.ahead = timedelta(minutes=5)
    for _ in range(2):
        await service.attention.look()
        assert service.attention.troubles[Kind.MISSED_SCHEDULE].startswith("the schedule of task each-minute missed 20")
    assert len(told(caplog, Kind.MISSED_SCHEDULE)) == 1


async def test_a_worker_that_has_gone_is_shown(make: Make) -> None:
    first, second = await make(), await make()
    gone = first.presence.id
    await first.die()
    await until(lambda: Kind.DEAD_WORKER in second.attention.troubles)
    assert gone in second.attention.troubles[Kind.DEAD_WORKER]


async def test_a_queue_that_only_grows_is_told_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    service = await make(engine=False)
    figures = {"qaa_jobs": {("double", "ready"): 0.0, ("double", "delayed"): 1e6}}

    async def taken() -> Any:
        figures["qaa_jobs"]["double", "ready"] += GROWTH_JOBS / 2
        return figures

    service.census.figures = taken  # type: ignore[method-assign]
    for _ in range(GROWTH_LOOKS - 1):
        await service.attention.look()
        assert service.attention.troubles == {}
    for _ in range(3):
        await service.attention.look()
        assert "only grows" in service.attention.troubles[Kind.GROWING_QUEUE]
    assert len(told(caplog, Kind.GROWING_QUEUE)) == 1


@pytest.mark.parametrize(
    ("due", "growing"),
    [
        ([*range(0, 10 * GROWTH_JOBS, GROWTH_JOBS)], True),
        ([*range(9)], False),  # too few looks
        ([*range(10)], False),  # too few jobs
        ([1000.0] * 10, False),
        ([*range(0, 9000, 1000), 7000], False),
    ],
)
def test_a_queue_grows_if_it_never_falls(due: list[float], growing: bool) -> None:
    assert is_growing(due) is growing
