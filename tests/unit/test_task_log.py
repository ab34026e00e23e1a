"""What a task logs is bounded before it reaches any log."""

from collections.abc import Mapping
from typing import Any

import pytest

from quart_async_api import Settings
from quart_async_api.jobs.context import JobContext, WaitContext

MOST = 100


def context(kind: type[WaitContext], told: list[str]) -> WaitContext:
    settings = Settings(job_log_max_bytes=MOST)
    if kind is WaitContext:
        return WaitContext("1", settings, {}, lambda: None)

    async def say(name: str, data: Mapping[str, Any], progress: str | None) -> None:
        told.append(data["text"])

    return JobContext("1", 1, settings, {}, lambda: None, say)


@pytest.mark.parametrize("kind", [WaitContext, JobContext])
@pytest.mark.parametrize("text", ["x" * 1_000_000, "é" * 1_000_000, "\ud800" * 1000])
async def test_a_task_filled_the_log_of_the_service(
    kind: type[WaitContext], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    told: list[str] = []
    run = context(kind, told)
    for _ in range(3):
        await run.log(text)
    [line] = caplog.messages
    assert len(line.encode(errors="replace")) < MOST + 60
    assert "QAA_JOB_LOG_MAX_BYTES" in line
    assert told == ([line] if kind is JobContext else [])


@pytest.mark.parametrize("kind", [WaitContext, JobContext])
async def test_what_a_task_logs_within_the_bound_is_logged_as_it_is(
    kind: type[WaitContext], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = context(kind, [])
    await run.log("é" * 25)
    await run.log("é" * 25)
    assert caplog.messages == ["é" * 25] * 2
