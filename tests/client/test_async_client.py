"""What only coroutines do: many calls at once, and leaving a watch early."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from quart_async_api.client import AsyncClient
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process


async def test_calls_go_side_by_side(server: ServerProcess) -> None:
    async with AsyncClient(server.url) as client:
        jobs = await asyncio.gather(*(client.submit("echo", {"value": number}) for number in range(30)))
        assert await asyncio.gather(*map(client.result, jobs)) == list(range(30))


async def test_a_watch_that_is_left_early_frees_its_connection(server: ServerProcess, tmp_path: Path) -> None:
    async with AsyncClient(server.url) as client:
        job = await client.submit("gated", {"gate": str(tmp_path / "gate")})
        for _ in range(110):  # more than httpx's pool has connections
            async with aclosing(client.watch(job)) as events:
                first = await anext(events)
                assert first.name == "snapshot"
        await client.cancel(job)
