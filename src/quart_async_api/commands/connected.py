"""What a command works with: the service on the database of the settings, connected, with nothing of it running."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from .. import tutorial
from ..observability.logging import logged
from ..service import Service
from ..settings import Settings
from ..tasks import load, registry

T = TypeVar("T")


@asynccontextmanager
async def connected(settings: Settings, *, with_tasks: bool = False) -> AsyncIterator[Service]:
    """Raises StartupError.

    `with_tasks`: the command needs to know them. Else none is loaded: a module that cannot be imported must not keep a key
    alive.
    """
    tasks = registry((tutorial, *load(settings.tasks))) if with_tasks else {}
    async with Service(settings, tasks).connected() as service:
        yield service


def ask(work: Callable[[Service], Awaitable[T]], *, settings: Settings | None = None, with_tasks: bool = False) -> T:
    """What `work` answers about the service of `settings`, or of the environment. Raises StartupError, SettingsError."""
    known = settings or Settings.from_environment()

    async def run() -> T:
        async with connected(known, with_tasks=with_tasks) as service:
            return await work(service)

    with logged(known):  # what is audited
        return asyncio.run(run())
