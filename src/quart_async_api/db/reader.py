"""The interface of reads beside the connection that writes, and what its implementations share."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ..errors import DatabaseUnavailable
from .failures import as_unavailable

SLOW_SECONDS = 60.0  # a statement that was slow is taken for slow for this time


@dataclass(slots=True, eq=False)
class Read:
    """One query. `named`: its rows are dicts by column, not tuples."""

    sql: str
    values: Sequence[Any]
    named: bool
    rows: asyncio.Future[list[Any]]

    def settle(self, outcome: list[Any] | Exception) -> None:
        """Give the rows or the error to the caller, unless it was cancelled or has them."""
        if self.rows.done():
            return
        if isinstance(outcome, list):
            self.rows.set_result(outcome)
        else:
            self.rows.set_exception(as_unavailable(outcome) or outcome)


class Reader(ABC):
    """Short reads share their way to the database; slow ones do not hold them up."""

    def __init__(self) -> None:
        self._slow_until: dict[str, float] = {}  # by the text of the statement

    def read(self, sql: str, values: Sequence[Any], *, named: bool = False) -> asyncio.Future[list[Any]]:
        """Return the rows as tuples, or as dicts by column if `named`.

        The future raises DatabaseUnavailable, or the driver's error for a fault of the statement. It may be cancelled.
        """
        read = Read(sql, values, named, asyncio.get_running_loop().create_future())
        if self._slow_until and self._slow_until.get(sql, 0.0) > monotonic():
            self._alone(read)
        else:
            self._together(read)
        return read.rows

    def remember_slow(self, read: Read) -> None:
        """Read later statements with the same text apart from the others, for SLOW_SECONDS."""
        self._slow_until[read.sql] = monotonic() + SLOW_SECONDS

    @property
    @abstractmethod
    def hops(self) -> int:
        """How often another thread, or the server, was asked: reads that wait together share one."""

    @abstractmethod
    async def close(self) -> None:
        """End every read, with DatabaseUnavailable for its caller, and give back all that is held."""

    @abstractmethod
    def _together(self, read: Read) -> None:
        """Read soon, with all others that wait."""

    @abstractmethod
    def _alone(self, read: Read) -> None:
        """Read apart from the others."""


def closed() -> DatabaseUnavailable:
    return DatabaseUnavailable("the database is closed")
