"""Client and AsyncClient: httpx under the operations of protocol.py."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource

from . import operating, protocol
from .documents import Callback, Event, Job, Status, Task, Worker
from .exchange import broken, headers, reply, sent, streamed
from .messages import Broken, JobOrId, Pause, Reply, Request, Steps
from .retrying import Policy
from .watching import Watching

T = TypeVar("T")


class Client:
    """Synchronous client of the service at `base_url`. Several threads may share one instance.

    `token` is an API key. `timeout` is in seconds, for one response. For `patience` seconds, the client repeats a request that
    was temporarily refused, or whose response was lost, if a repetition cannot do anything twice. Raises subclasses of
    ClientError.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._policy = Policy(patience)
        self._timeout = timeout
        self._http = httpx.Client(base_url=base_url, headers=headers(token), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        task: str,
        args: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
        callback_url: str | None = None,
        callback_events: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; it is on the disk when this returns. `delay`, and `timeout` for each attempt, are in seconds.

        The same `idempotency_key` and request return the same job. By default each call has a new key, so that the client's
        retries start no second job. The service sends `callback_url` a webhook for each of `callback_events` (default: the end
        of the job); `verify` checks it. Raises InvalidRequest, Unavailable, Unreachable.
        """
        return self._run(
            protocol.submit(
                task,
                args,
                priority,
                run_at,
                delay,
                timeout,
                max_attempts,
                callback_url,
                callback_events,
                idempotency_key,
                self._policy,
            )
        )

    def get(self, job: JobOrId) -> Job:
        """Return the current state of the job, with its attempts. Raises NotFound."""
        return self._run(protocol.get(job, self._policy))

    def wait(self, job: JobOrId, timeout: float | None = None) -> Job:
        """Wait until the job has ended, successfully or not. Raises StillUnfinished after `timeout` seconds."""
        return self._run(protocol.wait(job, timeout, self._policy))

    def result(self, job: JobOrId, timeout: float | None = None) -> Any:
        """Wait for the result of the job. Raises JobFailed, JobCancelled, StillUnfinished."""
        return self._run(protocol.result(job, timeout, self._policy))

    def cancel(self, job: JobOrId) -> Job:
        """Cancel a job; a running job is asked to stop. Raises Conflict if it has already ended."""
        return self._run(protocol.cancel(job, self._policy))

    def retry(self, job: JobOrId, args: Mapping[str, Any] | None = None) -> Job:
        """Run a failed or cancelled job again, or with `args` any ended one, and return the new job. Raises Conflict."""
        return self._run(protocol.retry(job, args, self._policy))

    def tasks(self) -> list[Task]:
        """List all tasks."""
        return self._run(protocol.tasks(self._policy))

    def jobs(
        self,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        retry_of: JobOrId | None = None,
    ) -> Iterator[Job]:
        """Iterate over all matching jobs, newest first. Pages are read as needed."""
        query = {"limit": str(protocol.PAGE), **protocol.filters(status, task, created_after, created_before, retry_of)}
        while True:
            jobs, cursor = self._run(protocol.page(query, self._policy))
            yield from jobs
            if cursor is None:
                return
            query["cursor"] = cursor

    def pause(self, task: str) -> Task:
        """Pause a task: its jobs stay queued, and its schedule does not fire. Needs the scope admin."""
        return self._run(operating.pause(task, self._policy))

    def resume(self, task: str) -> Task:
        """Resume a paused task. Needs the scope admin."""
        return self._run(operating.resume(task, self._policy))

    def run_scheduled(self, task: str) -> Job:
        """Start a scheduled task now. Needs the scope admin. Raises Conflict if it has no schedule."""
        return self._run(operating.run(task, self._policy))

    def count_bulk(
        self,
        action: str,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> int:
        """Return the number of jobs that `bulk` would change."""
        filters = protocol.filters(status, task, created_after, created_before)
        return self._run(operating.count(action, filters, self._policy))

    def bulk(
        self,
        action: str,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Job:
        """Cancel or retry (`action`) all jobs that match. Return the job that does it."""
        filters = protocol.filters(status, task, created_after, created_before)
        return self._run(operating.bulk(action, filters, self._policy))

    def workers(self) -> list[Worker]:
        """List the processes on the database. Needs the scope admin."""
        return self._run(operating.workers(self._policy))

    def callbacks(self, *, status: str | None = None, origin: str | None = None) -> Iterator[Callback]:
        """Iterate over the callbacks of all jobs, newest first. Pages are read as needed."""
        given = {"limit": str(protocol.PAGE), "status": status, "origin": origin}
        query = {name: value for name, value in given.items() if value}
        while True:
            found, cursor = self._run(operating.callbacks(query, self._policy))
            yield from found
            if cursor is None:
                return
            query["cursor"] = cursor

    def replay(self, job: JobOrId, callback_id: str) -> None:
        """Send a callback of a job again. Raises NotFound."""
        return self._run(operating.replay(job, callback_id, self._policy))

    def watch(self, job: JobOrId) -> Iterator[Event]:
        """Iterate over the events of a job, from a `snapshot` to its last event.

        After a lost connection or a restart of the service, the client resumes without losing or repeating an event.
        Raises NotFound, Unreachable.
        """
        watching = Watching(job, self._policy)
        while not watching.over:
            try:
                with self._http.stream(**streamed(watching.request(), self._timeout)) as response:
                    if watching.opened(reply(response, b"" if response.is_success else response.read())):
                        for heard in EventSource(response).iter_sse():
                            if event := watching.read(heard.event, heard.id, heard.data, heard.retry):
                                yield event
                            if watching.over:
                                return
                        watching.broken(None)
            except httpx.TransportError as error:
                watching.broken(broken(error).error)
            if watching.end_missed:
                yield watching.ended(self.get(job))
            else:
                time.sleep(watching.pause())

    def _run(self, steps: Steps[T]) -> T:
        answer: Reply | Broken | None = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = self._exchange(step)
        except StopIteration as end:
            returned: T = end.value
            return returned

    def _exchange(self, request: Request) -> Reply | Broken:
        try:
            response = self._http.request(**sent(request, self._timeout))
        except httpx.TransportError as error:
            return broken(error)
        return reply(response, response.content)


class AsyncClient:
    """Asynchronous client of the service at `base_url`, with the methods of Client."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._policy = Policy(patience)
        self._timeout = timeout
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers(token), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def submit(
        self,
        task: str,
        args: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the job's attempts, not of this call
        max_attempts: int | None = None,
        callback_url: str | None = None,
        callback_events: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Job:
        """See Client.submit."""
        return await self._run(
            protocol.submit(
                task,
                args,
                priority,
                run_at,
                delay,
                timeout,
                max_attempts,
                callback_url,
                callback_events,
                idempotency_key,
                self._policy,
            )
        )

    async def get(self, job: JobOrId) -> Job:
        """See Client.get."""
        return await self._run(protocol.get(job, self._policy))

    async def wait(self, job: JobOrId, timeout: float | None = None) -> Job:  # noqa: ASYNC109 - the service holds it
        """See Client.wait."""
        return await self._run(protocol.wait(job, timeout, self._policy))

    async def result(self, job: JobOrId, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the service holds it
        """See Client.result."""
        return await self._run(protocol.result(job, timeout, self._policy))

    async def cancel(self, job: JobOrId) -> Job:
        """See Client.cancel."""
        return await self._run(protocol.cancel(job, self._policy))

    async def retry(self, job: JobOrId, args: Mapping[str, Any] | None = None) -> Job:
        """See Client.retry."""
        return await self._run(protocol.retry(job, args, self._policy))

    async def tasks(self) -> list[Task]:
        """See Client.tasks."""
        return await self._run(protocol.tasks(self._policy))

    async def jobs(
        self,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        retry_of: JobOrId | None = None,
    ) -> AsyncIterator[Job]:
        """See Client.jobs."""
        query = {"limit": str(protocol.PAGE), **protocol.filters(status, task, created_after, created_before, retry_of)}
        while True:
            jobs, cursor = await self._run(protocol.page(query, self._policy))
            for job in jobs:
                yield job
            if cursor is None:
                return
            query["cursor"] = cursor

    async def pause(self, task: str) -> Task:
        """See Client.pause."""
        return await self._run(operating.pause(task, self._policy))

    async def resume(self, task: str) -> Task:
        """See Client.resume."""
        return await self._run(operating.resume(task, self._policy))

    async def run_scheduled(self, task: str) -> Job:
        """See Client.run_scheduled."""
        return await self._run(operating.run(task, self._policy))

    async def count_bulk(
        self,
        action: str,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> int:
        """See Client.count_bulk."""
        filters = protocol.filters(status, task, created_after, created_before)
        return await self._run(operating.count(action, filters, self._policy))

    async def bulk(
        self,
        action: str,
        *,
        status: Status | str | None = None,
        task: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Job:
        """See Client.bulk."""
        filters = protocol.filters(status, task, created_after, created_before)
        return await self._run(operating.bulk(action, filters, self._policy))

    async def workers(self) -> list[Worker]:
        """See Client.workers."""
        return await self._run(operating.workers(self._policy))

    async def callbacks(self, *, status: str | None = None, origin: str | None = None) -> AsyncIterator[Callback]:
        """See Client.callbacks."""
        given = {"limit": str(protocol.PAGE), "status": status, "origin": origin}
        query = {name: value for name, value in given.items() if value}
        while True:
            found, cursor = await self._run(operating.callbacks(query, self._policy))
            for callback in found:
                yield callback
            if cursor is None:
                return
            query["cursor"] = cursor

    async def replay(self, job: JobOrId, callback_id: str) -> None:
        """See Client.replay."""
        return await self._run(operating.replay(job, callback_id, self._policy))

    async def watch(self, job: JobOrId) -> AsyncGenerator[Event, None]:
        """See Client.watch. To leave it early, hold it in `contextlib.aclosing`, which closes its connection at once."""
        watching = Watching(job, self._policy)
        while not watching.over:
            try:
                async with self._http.stream(**streamed(watching.request(), self._timeout)) as response:
                    if watching.opened(reply(response, b"" if response.is_success else await response.aread())):
                        async for heard in EventSource(response).aiter_sse():
                            if event := watching.read(heard.event, heard.id, heard.data, heard.retry):
                                yield event
                            if watching.over:
                                return
                        watching.broken(None)
            except httpx.TransportError as error:
                watching.broken(broken(error).error)
            if watching.end_missed:
                yield watching.ended(await self.get(job))
            else:
                await asyncio.sleep(watching.pause())

    async def _run(self, steps: Steps[T]) -> T:
        answer: Reply | Broken | None = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    answer = None
                else:
                    answer = await self._exchange(step)
        except StopIteration as end:
            returned: T = end.value
            return returned

    async def _exchange(self, request: Request) -> Reply | Broken:
        try:
            response = await self._http.request(**sent(request, self._timeout))
        except httpx.TransportError as error:
            return broken(error)
        return reply(response, response.content)
