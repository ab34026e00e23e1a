"""Cancel or retry all jobs that match a filter: a job of its own, which may do that for as long as it takes."""

import asyncio
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from ..access.caller import Scope
from ..access.keys import KeyStore
from ..errors import (
    DatabaseUnavailable,
    FieldError,
    InvalidInput,
    JobEnded,
    QueueFull,
    QuotaExceeded,
    ResourceMissing,
    Unreadable,
)
from ..jobs.bulk import Place, Wanted
from ..jobs.states import JobRecord, Status
from ..jobs.store import JobStore
from ..jobs.submission import New
from ..moments import Clock, moment, timestamp, utc_now
from ..settings import Settings
from ..tasks import Backoff, TaskContext, task
from .submissions import Options, Submissions
from .times import Moment

NAME = "jobs-bulk"
PAGE = 50  # jobs in one transaction
WAIT_SECONDS = 0.5  # for room in the queue
WAITS = 20  # without any room, after which the job leaves its slot to others
# So that a bulk job starts when the queue is full, and ends it: before others, and with a few places that others lack.
OPTIONS = Options(priority=100)
SPARE = 10


class Action(StrEnum):
    CANCEL = "cancel"
    RETRY = "retry"


# The statuses that an action applies to.
_POSSIBLE = {Action.CANCEL: (Status.QUEUED, Status.RUNNING), Action.RETRY: (Status.FAILED, Status.CANCELLED)}


class JobFilter(BaseModel):
    """Which jobs. An empty filter: all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status | None = None
    task: Annotated[str, Field(max_length=200, pattern="^[^\\x00]*$")] | None = None
    created_after: Moment | None = Field(default=None, description="A time with time zone")
    created_before: Moment | None = Field(default=None, description="A time with time zone")


class BulkResult(TypedDict):
    """`matched` jobs at the start; `done` were changed; `skipped` could no longer be."""

    matched: int
    done: int
    skipped: int


class NoRoom(ResourceMissing):
    """The queue is full, or the key has as many unfinished jobs as it may have."""

    def __init__(self) -> None:
        super().__init__("room in the queue")


class BulkOperations:
    """Bulk jobs on one database."""

    def __init__(
        self, store: JobStore, submissions: Submissions, keys: KeyStore, settings: Settings, *, clock: Clock = utc_now
    ) -> None:
        self._store = store
        self._submissions = submissions
        self._keys = keys
        self._ttl = settings.result_ttl
        self._clock = clock

    async def run(self, ctx: TaskContext, action: Action, filter: JobFilter) -> BulkResult:
        """Change the jobs that the owner of this job may change, from the place where the last attempt was.

        Raises InvalidInput, NoRoom, DatabaseUnavailable.
        """
        job = await self._store.reading.get(ctx.job_id, None)
        which = wanted(action, filter, await self._sees(job.owner), job.created_at)
        place = await self._store.bulk.place(job.id) or await self._store.bulk.begin(job.id, which)
        for status in which.statuses[which.statuses.index(place.status) :]:
            if status is not place.status:
                place = _still(await self._store.bulk.turn_to(job.id, place, status))
            size = PAGE
            while ids := await self._store.bulk.page(which, place, size):
                await ctx.progress(min(place.done, place.matched), place.matched)
                if action is Action.CANCEL:
                    place = await self._cancel(job.id, place, ids)
                else:
                    place, size = await self._retry(job.id, job.created_at, place, ids)
        await ctx.progress(place.matched, place.matched)
        return {"matched": place.matched, "done": place.done, "skipped": max(0, place.matched - place.done)}

    async def _sees(self, owner: str | None) -> str | None:
        """Return the owner whose jobs an owner may change now; None: all. A revoked key is no admin any longer."""
        if owner is None:
            return None  # made while no key existed, by the command line, or by an admin's schedule
        _, keys = await self._keys.current()
        key = keys.get(owner)
        is_admin = key is not None and key.is_valid(timestamp(self._clock())) and Scope.ADMIN in key.scopes
        return None if is_admin else owner

    async def _cancel(self, job_id: str, place: Place, ids: list[str]) -> Place:
        following = await self._store.bulk.cancel(job_id, place, ids, timestamp(self._clock()), self._ttl)
        self._submissions.notify()
        return _still(following)

    async def _retry(self, job_id: str, began: str, place: Place, ids: list[str]) -> tuple[Place, int]:
        """Retry a page, or as much of it as there is room for. Return the next place, and the size of the next page."""
        waits = 0
        while True:
            # After the start, even if the clock was set back: a retry is in no set of this bulk job.
            now = max(self._clock(), moment(began) + timedelta(milliseconds=1))
            new = [each for job in await self._store.bulk.jobs(ids) for each in self._again(job, now)]
            try:
                following = await self._store.bulk.insert(job_id, place, ids[-1], new)
            except (QueueFull, QuotaExceeded) as error:
                if len(ids) > 1:
                    ids = ids[: len(ids) // 2]
                elif isinstance(error, QuotaExceeded) and error.policy != "jobs":
                    # Its owner stores too much: that does not pass soon.
                    return _still(await self._store.bulk.insert(job_id, place, ids[-1], [])), 1
                elif waits == WAITS:
                    raise NoRoom from error
                else:
                    waits += 1
                    await asyncio.sleep(WAIT_SECONDS)
            else:
                return _still(following), min(PAGE, 2 * len(ids))

    def _again(self, job: JobRecord, now: datetime) -> list[New]:
        """Return the retry of a job; nothing if it cannot be retried: its task or its arguments have changed."""
        try:
            return [self._submissions.new(self._submissions.again(job, now=now))]
        except (InvalidInput, JobEnded, Unreadable):
            return []


def wanted(action: Action, filter: JobFilter, sees: str | None, until: str) -> Wanted:
    """Return the jobs that an action is about. Raises InvalidInput for a status that it cannot change."""
    possible = _POSSIBLE[action]
    if filter.status is not None and filter.status not in possible:
        raise InvalidInput(FieldError("#/filter/status", f"Must be {' or '.join(possible)} to {action} a job"))
    return Wanted(
        owner=sees,
        statuses=possible if filter.status is None else (filter.status,),
        until=until,
        but=NAME,
        task=filter.task,
        created_after=_text(filter.created_after),
        created_before=_text(filter.created_before),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _still(place: Place | None) -> Place:
    """Raises DatabaseUnavailable, for another attempt, if another run of this job has gone on from the same place."""
    if place is None:
        raise DatabaseUnavailable("another run of this job goes on")
    return place


@task(NAME, retries=20, backoff=Backoff(maximum=30.0), retryable=(DatabaseUnavailable,))
async def bulk_jobs(ctx: TaskContext, *, action: Action, filter: JobFilter) -> BulkResult:
    """Cancel or retry all jobs that match a filter: POST /jobs/bulk."""
    return await ctx.resource(BulkOperations).run(ctx, action, filter)
