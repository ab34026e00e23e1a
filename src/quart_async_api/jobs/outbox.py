"""Port through which the store records events for webhooks."""

from typing import Protocol

from ..db.group_commit import Unit
from .states import JobRecord


class Outbox(Protocol):
    """Records the events of jobs that have a callback."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        """Add statements to the transaction of this `event` of `job`."""

    def committed(self) -> None:
        """Handle the commit of such a transaction."""


class NoOutbox:
    """For a store that is only read, or whose jobs have no callbacks."""

    def tell(self, job: JobRecord, event: str, now: str) -> Unit[None]:
        yield from ()

    def committed(self) -> None: ...
