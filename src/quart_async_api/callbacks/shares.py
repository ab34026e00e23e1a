"""Divides a fixed number of slots among owners, and reserves slots for new owners."""

from collections import Counter
from collections.abc import Iterable
from typing import Self


class Shares:
    """An owner may take a slot while it holds fewer than are free: alone it gets half of them, n busy ones 1/(n+1) each.

    So a slot stays free for an owner that holds none, until there are about as many busy owners as slots.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._held: Counter[str] = Counter()
        self._last: dict[str, int] = {}  # the last turn in which each took a slot
        self._turn = 0

    @property
    def free(self) -> int:
        return self._slots - self._held.total()

    def may_take(self, owner: str) -> bool:
        return self._held[owner] < self.free

    def next(self, wanting: Iterable[str]) -> str | None:
        """Return the owner with the fewest slots, and of several the one that waits longest; None if it may take no slot."""
        owner = min(wanting, key=lambda each: (self._held[each], self._last.get(each, 0)), default=None)
        return owner if owner is not None and self.may_take(owner) else None

    def take(self, owner: str) -> None:
        self._turn += 1
        self._last[owner] = self._turn
        self._held[owner] += 1

    def give_back(self, owner: str) -> None:
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]

    def copy(self) -> Self:
        other = type(self)(self._slots)
        other._held, other._last, other._turn = self._held.copy(), self._last.copy(), self._turn
        return other
