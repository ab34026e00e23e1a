"""Where a job store leaves word of what happens, for whoever calls somebody back about it."""

from typing import Protocol

from ..db.group_commit import Unit
from .states import JobRecord


class Outbox(Protocol):
    """Where the events of jobs go that somebody wants to be called back about."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """What belongs into the transaction in which `event` happens to `job`."""

    def committed(self) -> None:
        """Some of it has been committed."""


class NoOutbox:
    """For a store that is only read, or whose jobs call nobody."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        yield from ()

    def committed(self) -> None: ...
