"""The TaskContext of a run: one kind for a waiting caller, one for a job."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import DatabaseUnavailable
from ..resources import Resource, found
from ..settings import Settings

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("quart_async_api.task")

Say = Callable[[str, Mapping[str, Any], str | None], Awaitable[None]]

MESSAGE_CHARACTERS = 1000  # of progress: every watcher and every list gets it
PROGRESS_SECONDS = 0.25  # at most one write of progress in this time, besides one before each log line and the last one


class WaitContext:
    """The context of a run whose caller waits: without a job row, so progress is ignored.

    `check` is called before each report. It raises RuntimeError where the report of a job could not be written.
    """

    attempt = 1
    cancelled = False

    def __init__(
        self, job_id: str, settings: Settings, resources: Mapping[type, object], check: Callable[[], None]
    ) -> None:
        self.job_id = job_id
        self.settings = settings
        self._resources = resources
        self._check = check
        self._logged = 0  # bytes

    @property
    def http(self) -> "httpx.AsyncClient":
        from ..upstream.client import UpstreamClient

        return self.resource(UpstreamClient)

    def resource(self, kind: type[Resource]) -> Resource:
        return found(self._resources, kind)

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._check()

    async def log(self, text: str) -> None:
        self._check()
        self._log(text)

    def _log(self, text: str) -> str | None:
        """Write `text` to the service's log, cut to the remaining room. Return the written text, or None."""
        room = self.settings.job_log_max_bytes - self._logged
        if room <= 0:
            return None
        written = text[: room + 1].encode(errors="replace")  # a character has at least one byte
        self._logged += len(written)
        if len(written) > room:
            text = written[:room].decode(errors="ignore") + " … (QAA_JOB_LOG_MAX_BYTES reached)"
        log.info("%s", text, extra={"job_id": self.job_id})
        return text


class JobContext(WaitContext):
    """The context of one attempt of a job. `say` writes an event and the progress, fenced by the run token."""

    def __init__(
        self,
        job_id: str,
        attempt: int,
        settings: Settings,
        resources: Mapping[type, object],
        check: Callable[[], None],
        say: Say,
    ) -> None:
        super().__init__(job_id, settings, resources, check)
        self.attempt = attempt
        self._say = say
        self._unsaid: str | None = None
        self._said_at = -PROGRESS_SECONDS
        self._later: asyncio.Task[None] | None = None
        self._telling = asyncio.Lock()

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._check()  # now, not where it is written a moment later, by another task
        if message is not None and len(message) > MESSAGE_CHARACTERS:
            message = message[: MESSAGE_CHARACTERS - 1] + "…"
        percent = round(100 * current / total, 1) if total else None
        self._unsaid = json.dumps(
            {"current": current, "total": total, "percent": percent, "message": message}, allow_nan=False
        )
        wait = self._said_at + PROGRESS_SECONDS - time.monotonic()
        if wait <= 0:
            await self._tell()
        elif self._later is None:
            self._later = asyncio.create_task(self._tell_after(wait))

    async def log(self, text: str) -> None:
        self._check()
        if (told := self._log(text)) is None:
            return
        await self._tell()  # the progress that was reported before this line
        try:
            await self._say("log", {"text": told, "attempt": self.attempt}, None)
        except DatabaseUnavailable as error:  # the service's log has it
            log.warning("a line of job %s is not stored: %s", self.job_id, error)

    def last_progress(self) -> str | None:
        """Return the progress that is not written yet, to write it with the outcome."""
        if self._later is not None:
            self._later.cancel()
        return self._unsaid

    async def _tell_after(self, wait: float) -> None:
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self._said_at + PROGRESS_SECONDS - time.monotonic()  # a log line may have written it
        self._later = None
        await self._tell()

    def _keep(self, progress: str) -> None:
        if self._unsaid is None:  # else there is newer progress
            self._unsaid = progress

    async def _tell(self) -> None:
        async with self._telling:  # later writes wait for this one
            if self._unsaid is None:
                return
            progress, self._unsaid = self._unsaid, None
            self._said_at = time.monotonic()
            try:
                await self._say("progress", json.loads(progress), progress)
            except DatabaseUnavailable as error:  # not a fault of the task: the next write includes it
                self._keep(progress)
                log.warning("the progress of job %s waits: %s", self.job_id, error)
