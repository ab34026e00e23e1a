"""The figures of the last hour: counted in each process, written to one table, and right with several of them."""

import logging
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.jobs.run_log import AttemptEnd
from quart_async_api.jobs.states import Status
from quart_async_api.moments import ServiceClock
from quart_async_api.services.figures import AHEAD_MINUTES, MOST_NAMES, Figures, Hour
from quart_async_api.services.submissions import Options

from .conftest import Make, Service, until
from .sample_tasks import gate, running

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


class Process:
    """The figures of one process; what it does is what the test says."""

    def __init__(self, service: Service, kept: int = 60) -> None:
        self.clock = ServiceClock(NOON)
        self.figures = Figures(service.database, service.commits, kept, self.clock)
        self.figures.requests = self.answered = [0] * 10

    def ended(self, task: str = "a", ran: float = 1.0, kind: str = "") -> None:
        outcome = Status.FAILED if kind else Status.SUCCEEDED
        self.figures._attempt_ended(
            AttemptEnd("", task, 1, outcome, 0.01, ran, "", retried=False, ended_as=outcome, kind=kind)
        )

    async def seen(self) -> dict[str, tuple[int, int, int]]:
        """The jobs that succeeded and failed, and the successful requests, of each minute that has some."""
        minutes = (await self.figures.read()).minutes
        return {
            f"{at:%H:%M}": (minute.succeeded, minute.failed, minute.requests[1])
            for at, minute in minutes.items()
            if minute.succeeded or minute.failed or minute.requests[1]
        }


@pytest.fixture
async def idle(make: Make) -> Service:
    """A service without an engine: only its database is used."""
    return await make(engine=False)


def totals(hour: Hour) -> tuple[int, int, int, int]:
    return (
        sum(minute.submitted for minute in hour.minutes.values()),
        sum(minute.succeeded for minute in hour.minutes.values()),
        sum(minute.failed for minute in hour.minutes.values()),
        sum(minute.cancelled for minute in hour.minutes.values()),
    )


async def test_what_jobs_do_is_counted_once_whichever_process_does_it(make: Make) -> None:
    one, other = await make(), await make()
    for service in (one, other):
        await service.run("double", number=1)
        await service.run("flaky", failures=1)  # a failed attempt, but no failed job
        await service.run("slow")
        held = await service.submit("hold")
        await until(lambda: bool(running))
        await service.submissions.cancel(held.id)
        assert (await service.wait(held)).status is Status.CANCELLED
    queued = await one.submit("double", Options(run_at=one.submissions.later(600)), number=1)
    await one.census.figures()
    await one.submissions.cancel(queued.id)
    gate("gate").set()
    for service in (one, other):
        await service.figures.write()
    hour, same = await one.figures.read(), await other.figures.read()
    assert totals(hour) == totals(same) == (9, 4, 2, 3)
    assert hour.failures == same.failures == {"Transient": 2, "task-timeout": 2}
    assert {task: (times.attempts, times.failed) for task, times in hour.tasks.items()} == {
        "flaky": (4, 2),
        "double": (2, 0),
        "slow": (2, 2),
    }
    assert max(minute.queued for minute in same.minutes.values()) == 1
    assert len(hour.minutes) == 60
    assert sum(len(minute.started) for minute in hour.minutes.values()) == 2


async def test_nothing_is_written_while_nothing_changes(idle: Service) -> None:
    process = Process(idle)
    await process.figures.write()
    before = idle.commits.commits
    process.clock.ahead += timedelta(minutes=5)
    for _ in range(3):
        await process.figures.write()
    assert idle.commits.commits == before
    process.answered[2] += 1
    await process.figures.write()
    await process.figures.write()
    assert idle.commits.commits == before + 1


async def test_requests_belong_to_the_minute_in_which_they_were_answered(idle: Service) -> None:
    process = Process(idle)
    process.answered[2] += 3
    process.clock.ahead += timedelta(seconds=30)
    process.ended()  # the first that is seen of the next minute
    process.answered[2] += 1
    assert await process.seen() == {"12:00": (0, 0, 3), "12:01": (1, 0, 1)}


async def test_a_clock_that_is_set_back_or_jumps_ahead_loses_no_minute(idle: Service) -> None:
    process, reader = Process(idle), Process(idle)
    for ahead in (timedelta(0), timedelta(days=3), timedelta(0), timedelta(minutes=-10), timedelta(0)):
        process.clock.ahead = ahead
        process.ended()
        await process.figures.write()
    assert await reader.seen() == await process.seen() == {"11:50": (1, 0, 0), "12:00": (3, 0, 0)}


async def test_a_process_that_dies_in_a_minute_leaves_what_it_has_written_and_the_next_one_adds_to_it(
    idle: Service,
) -> None:
    dead = Process(idle)
    dead.ended()
    await dead.figures.write()
    dead.ended()  # and dies before it writes
    following = Process(idle)
    following.ended(kind="ValueError")
    await following.figures.write()
    assert await following.seen() == await Process(idle).seen() == {"12:00": (1, 1, 0)}
    [minute] = [each for each in (await following.figures.read()).minutes.values() if each.started]
    assert len(minute.started) == 2


async def test_what_cannot_be_written_is_shown_here_and_written_later(
    make: Make, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    if not backend.startswith("sqlite"):
        pytest.skip("needs a file that another can lock")
    caplog.set_level(logging.WARNING)
    service = await make(engine=False)
    await service.database.client.execute_query("PRAGMA busy_timeout=20")
    process = Process(service)
    blocker = sqlite3.connect(backend.removeprefix("sqlite://"), isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        for _ in range(3):  # minutes
            process.ended()
            assert await process.figures.loop._round() is False
            process.clock.ahead += timedelta(minutes=1)
        with pytest.raises(DatabaseUnavailable):
            await process.figures.write()
        blocker.execute("ROLLBACK")
    finally:
        blocker.close()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["figures waits"]
    counted = {f"12:0{minute}": (1, 0, 0) for minute in range(3)}
    assert await process.seen() == counted
    assert await process.figures.loop._round() is True
    reader = Process(service)
    reader.clock.ahead = process.clock.ahead
    assert await reader.seen() == counted


async def test_rows_and_names_are_bounded_and_old_rows_are_deleted(idle: Service) -> None:
    process = Process(idle, kept=3)
    for number in range(100):
        process.ended(f"task-{number}", kind=f"Error{number}")
        await process.figures.write()
        process.clock.ahead += timedelta(minutes=1)
    assert len(process.figures._minutes) <= 3 + 1
    process.clock.ahead = timedelta(minutes=99)
    await process.figures.forget("")
    assert [row["minute"] % 60 for row in await idle.database.read("SELECT minute FROM figures ORDER BY minute")] == [
        37,
        38,
        39,
    ]
    process.clock.ahead = -timedelta(minutes=AHEAD_MINUTES)  # the clock was ahead until now
    await process.figures.forget("")
    assert await idle.database.read("SELECT minute FROM figures") == []

    crowd = [Process(idle) for _ in range(4)]
    for at, member in enumerate(crowd):
        for number in range(40):
            member.ended(f"task-{at}-{number}", kind=f"Error{at}-{number}")
        await member.figures.write()
    hour = await crowd[0].figures.read()
    assert len(hour.tasks) <= MOST_NAMES + 1
    assert len(hour.failures) <= MOST_NAMES + 1
    assert sum(hour.failures.values()) == sum(times.attempts for times in hour.tasks.values()) == 160


async def test_a_row_that_cannot_be_read_is_left_out(idle: Service) -> None:
    process = Process(idle)
    process.ended()
    await process.figures.write()
    await idle.database.client.execute_query("UPDATE figures SET figures = '{\"requests\": 1}'")
    reader = Process(idle)
    reader.ended(kind="ValueError")
    assert await reader.seen() == {"12:00": (0, 1, 0)}
