"""Refused requests: their limit per address, and their lines in the audit log. Independent of HTTP."""

import asyncio
import contextvars
from collections import Counter
from typing import Self

from ..access.audit import refused
from ..access.caller import Caller
from ..settings import Settings
from .limits import Policy, Quota, RateLimits

_UNLIMITED_WINDOW = 60  # seconds per line of the audit log, without a limit
_MOST_ADDRESSES = 10_000
_OTHERS = "other addresses"


class Refusals:
    """Counts the refused requests of each address.

    The audit log gets at most two lines for an address and window: its first refusal at once, how many there were at the end.
    Past `_MOST_ADDRESSES` at once, those of further addresses are summed up as one.
    """

    def __init__(self, policy: Policy | None) -> None:
        self._limits = None if policy is None else RateLimits(policy)
        self.policy = policy
        self._window = policy.window if policy else _UNLIMITED_WINDOW
        self._counts: dict[str, Counter[int]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits of `QAA_REFUSAL_LIMIT`."""
        return cls(None if settings.refusal_limit == "off" else Policy.parse(settings.refusal_limit))

    def count(self, address: str, status: int, by: Caller, target: str, request_id: str | None) -> Quota | None:
        """Count a request of `address` that was refused with `status`. Return the rest of its quota; None without a limit."""
        known = address if address in self._counts or len(self._counts) < _MOST_ADDRESSES else _OTHERS
        if known in self._counts:
            self._counts[known][status] += 1
        else:
            refused(known, {status: 1}, by, target, request_id)
            self._counts[known] = Counter({status: 1})
            loop = asyncio.get_running_loop()
            self._timers[known] = loop.call_later(self._window, self._tell, known, context=contextvars.Context())
        return None if self._limits is None else self._limits.take(address)

    def close(self) -> None:
        """Log what was counted so far."""
        for address in list(self._counts):
            self._timers[address].cancel()
            self._tell(address)

    def _tell(self, address: str) -> None:
        del self._timers[address]
        counts = self._counts.pop(address)
        if counts.total() > 1:
            refused(address, counts)
