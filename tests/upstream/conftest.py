"""The outside world that misbehaves, and the client for it."""

from collections.abc import AsyncIterator

import pytest

from quart_async_api.settings import Settings
from quart_async_api.upstream.client import UpstreamClient

from .faults import FaultyStandIn


@pytest.fixture
async def world() -> AsyncIterator[FaultyStandIn]:
    async with FaultyStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def limits() -> Settings:
    return Settings(upstream_timeout=30, upstream_concurrency=100, upstream_max_bytes=1_000_000)


@pytest.fixture
async def outside(limits: Settings) -> AsyncIterator[UpstreamClient]:
    async with UpstreamClient(limits) as client:
        yield client
