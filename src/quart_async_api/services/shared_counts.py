"""Counts the requests of a caller over all processes of one PostgreSQL database: each tells the others what it has counted."""

import asyncio
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from ..db.notifications import Notifications, Wake
from .limits import RateLimits

SHARE_SECONDS = 0.1  # what a caller sends elsewhere in this time is not counted yet
_MOST = 1000  # callers told of at one time: those with the most requests


class SharedCounts:
    """Shares the counts of `limits`. While wake-ups are lost, each process counts for itself."""

    def __init__(self, limits: RateLimits, notifications: Notifications) -> None:
        self._limits = limits
        self._notifications = notifications
        self._new: Counter[str] = Counter()  # counted here, and not told yet
        limits.on_taken = self._taken
        notifications.on(Wake.COUNTED, self._heard)

    def _taken(self, caller: str) -> None:
        if not self._new:
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self._tell)
        self._new[caller] += 1

    def _tell(self) -> None:
        new, self._new = self._new, Counter()
        self._notifications.tell(Wake.COUNTED, *(f"{count} {caller}" for caller, count in new.most_common(_MOST)))

    def _heard(self, counts: Collection[str]) -> None:
        for text in counts:
            count, _, caller = text.partition(" ")
            with suppress(ValueError):
                self._limits.add(caller, int(count))
