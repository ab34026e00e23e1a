"""What a job costs from its submission to its end, in counts that no noise changes: a later change that costs more fails here.

A count that falls is good news: write it down, so that it stays.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from quart_async_api.jobs.states import Status

from .conftest import RARELY, Make

pytestmark = pytest.mark.usefixtures("rare_rounds")
ROUNDS = 8  # the first rounds of loops may use the database in some of them: the smallest counts are the jobs' own


@dataclass
class Costs:
    """`statements`: all that the database runs, with the begin and the end of each transaction. `timers`: armed."""

    statements: int = 0
    transactions: int = 0
    tasks: int = 0
    timers: int = 0

    def __le__(self, most: "Costs") -> bool:
        return all(getattr(self, name) <= getattr(most, name) for name in Costs.__dataclass_fields__)


@pytest.fixture
def backend(database_file: Path) -> str:
    return f"sqlite://{database_file}"


@contextmanager
def counting(costs: Costs) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def make_task(loop: Any, coroutine: Any, **options: Any) -> Any:
        costs.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    def arm(*args: Any, **options: Any) -> Any:
        costs.timers += 1
        return call_at(*args, **options)

    loop.set_task_factory(make_task)
    with patch.object(loop, "call_at", arm):
        try:
            yield
        finally:
            loop.set_task_factory(None)


async def cost_of(make: Make, jobs: int, statements: list[str]) -> Costs:
    """The least that so many jobs cost together, of some rounds."""
    service = await make(**RARELY)
    found = []
    for _ in range(ROUNDS):
        costs = Costs()
        statements.clear()
        commits = service.commits.commits
        with counting(costs):
            made = [await service.submit("double", number=1)] if jobs == 1 else []
            made = made or await asyncio.gather(*(service.submit("double", number=1) for _ in range(jobs)))
            ended = await asyncio.gather(*(service.wait(job) for job in made))
        assert {job.status for job in ended} == {Status.SUCCEEDED}
        costs.statements, costs.transactions = len(statements), service.commits.commits - commits
        found.append(costs)
    return Costs(*(min(getattr(costs, name) for costs in found) for name in Costs.__dataclass_fields__))


async def test_a_job_alone_costs_no_more_than_before(statements: list[str], make: Make) -> None:
    found = await cost_of(make, 1, statements)
    assert found <= Costs(statements=14, transactions=2, tasks=6, timers=3), found


async def test_a_job_of_a_hundred_at_once_costs_no_more_than_before(statements: list[str], make: Make) -> None:
    found = await cost_of(make, 100, statements)
    # Two tasks of each job are of the test: its submission and its wait. A timer of each job is that of the wait.
    assert found <= Costs(statements=411, transactions=2, tasks=304, timers=102), found
