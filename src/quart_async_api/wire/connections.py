"""Limits on open client connections, in all and from one address."""

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self

log = logging.getLogger(__name__)

_OWN_FILES = 64  # of the process: the database and its journal, locks, the log, files of requests
_MOST_FILES = 1024 * 1024  # where there is no limit
_SECONDS_BETWEEN_LINES = 10.0


class Abortable(Protocol):
    """A transport, or another object that represents a connection."""

    def abort(self) -> None: ...


class Connections:
    """The open connections. Each takes one place. Any protocol may register its transports here."""

    def __init__(
        self,
        most: int,
        per_address: int,
        *,
        is_exempt: Callable[[str], bool] = lambda address: False,
        client_of: Callable[[str], str] = lambda address: address,
    ) -> None:
        """`is_exempt`: whether an address has no limit of its own. `client_of`: the network that counts as one client."""
        self._most = most
        self._per_address = min(per_address, max(1, most // 2))  # no client can take them all
        self._is_exempt = is_exempt
        self._client_of = client_of
        self._open: dict[Abortable, str | None] = {}
        self._of_client: Counter[str] = Counter()
        self._refused = 0
        self._told_at = -_SECONDS_BETWEEN_LINES

    def __len__(self) -> int:
        return len(self._open)

    def add(self, transport: Abortable, address: str | None) -> bool:
        """Take a place for a connection from `address` (None: a Unix socket). Return False if it is full: close it then."""
        client = None if address is None or self._is_exempt(address) else self._client_of(address)
        if len(self._open) >= self._most:
            self._tell(f"{self._most} are open, the most that QAA_MAX_CONNECTIONS and the limit of open files allow")
            return False
        if client is not None and self._of_client[client] >= self._per_address:
            self._tell(
                f"{client} has {self._per_address} open, the most that QAA_MAX_CONNECTIONS_PER_ADDRESS allows; "
                "a reverse proxy belongs into QAA_TRUSTED_PROXIES"
            )
            return False
        self._open[transport] = client
        if client is not None:
            self._of_client[client] += 1
        return True

    def discard(self, transport: Abortable) -> None:
        """Free the place of a closed connection."""
        client = self._open.pop(transport, None)
        if client is not None:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def abort(self) -> None:
        """Abort all open connections, with their unsent data."""
        for transport in list(self._open):
            transport.abort()

    def _tell(self, reason: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= _SECONDS_BETWEEN_LINES:
            log.warning("refused %d connections: %s", self._refused, reason)
            self._refused, self._told_at = 0, now


@dataclass(frozen=True, slots=True)
class FileShares:
    """Divides the file limit of the process: counted connections, and accepted ones that are not counted yet."""

    connections: int
    backlog: int

    @classmethod
    def of(cls, limit: int, *, reserve: int, backlog: int, most: int) -> Self:
        """`reserve` files, but at most half of `limit`, are for the database, callbacks and upstreams."""
        room = limit - min(_OWN_FILES + reserve, limit // 2)
        backlog = max(1, min(backlog, room // 4))  # the kernel may hand over this many at once
        return cls(max(1, min(most, room - backlog)), backlog)


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard limit. Return the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # the real limit of the system may be lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft
