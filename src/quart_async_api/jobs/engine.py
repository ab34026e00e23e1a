"""The port that every job engine implements, and the outcomes that all share."""

from collections.abc import Iterable
from typing import Protocol

from ..db.group_commit import Statement
from .states import JobRecord


class JobEngine(Protocol):
    """Runs the jobs of the store, at least once each, and writes what becomes of them through its fence."""

    async def start(self) -> None: ...

    async def drain(self, grace: float) -> None:
        """Take no more; give what runs `grace` seconds; give back what is left, as if its attempt had never been."""

    async def stop(self) -> None: ...

    def enqueue(self, job: JobRecord) -> Iterable[Statement]:
        """What else belongs into the transaction that inserts the job."""

    def committed(self, job: JobRecord) -> None:
        """The job is in the store."""

    def cancel(self, job_id: str) -> None:
        """Somebody asked, in the store, for the cancellation of this running job."""
