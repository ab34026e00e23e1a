"""Keeps a connection usable when the task that uses it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run `coroutine` to its end even if this task is cancelled meanwhile. Raise the cancellation afterwards."""
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen: the cancellation is what the caller gets
    raise cancelled
