"""asyncio tasks that outlive their request: in a clean context, strongly referenced, ended in order."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class BackgroundTasks:
    """Make one where the context is bound to the database and to no request: its tasks inherit that context."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()

    def spawn(
        self, work: Coroutine[Any, Any, T], *, name: str, within: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        """Run `work` whatever becomes of the caller, in a `context()` that others may share; a failure is logged."""
        # A request's context holds its request and any open transaction; background work must inherit neither.
        context = self.context() if within is None else within
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks.add(task)  # the event loop has only a weak reference
        task.add_done_callback(self._done, context=context)
        return task

    def context(self) -> contextvars.Context:
        """Return a new context for work: a copy of the one in which this object was made."""
        return self._context.copy()

    def abandon(self, task: asyncio.Task[Any]) -> None:
        """End a task that swallows its cancellation, and do not log what it ends with."""
        task.remove_done_callback(self._done)
        task.add_done_callback(self._abandoned)
        # No cancellation gets through to it; to be closed does, where it catches CancelledError alone. The task itself then
        # trips over its coroutine ("cannot reuse already awaited coroutine").
        if inspect.iscoroutine(work := task.get_coro()):
            with suppress(Exception, asyncio.CancelledError):  # whatever its own cleanup raises
                work.close()
        task.cancel()

    def _abandoned(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", task.get_name(), exc_info=error)

    async def close(self, grace: float) -> None:
        """Cancel what is left, and wait `grace` seconds for it."""
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=grace)
