"""The service for a command: connected to the configured database, with no job and no loop running."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from ..loading import load_service
from ..observability.logging import logged
from ..service import Service
from ..settings import Settings

T = TypeVar("T")


@asynccontextmanager
async def connected(settings: Settings, *, with_tasks: bool = False) -> AsyncIterator[Service]:
    """Connect the service. Raises StartupError.

    The app and its tasks are loaded only for `with_tasks`: a module that cannot be imported must not prevent revoking a key.
    """
    service = load_service(settings) if with_tasks else Service(settings, {})
    async with service.connected():
        yield service


def ask(work: Callable[[Service], Awaitable[T]], *, settings: Settings | None = None, with_tasks: bool = False) -> T:
    """Return what `work` returns for the service of `settings` (default: the environment). Raises StartupError."""
    known = settings or Settings.from_environment()

    async def run() -> T:
        async with connected(known, with_tasks=with_tasks) as service:
            return await work(service)

    with logged(known):  # the audit log
        return asyncio.run(run())
