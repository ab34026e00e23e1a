"""Ends a worker whose database has fallen silent: its jobs run elsewhere by then, and its own runs must not go on beside them.

A heartbeat that fails is no reason to end: the worker stops its runs by itself (`Presence.on_cut_off`), and goes on later.
"""

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from ..service import Service

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h


class Watchdog:
    """A thread, because the event loop may be what hangs. It starts to watch with the first heartbeat."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = service.presence.cut_off_seconds
        self._seen: tuple[datetime | None, int] = (None, 0)
        self._missing = 0.0

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        pause = self._limit / 20
        looked_at = time.monotonic()
        while not self._service.lifecycle.draining.is_set():
            time.sleep(pause)
            now = time.monotonic()
            # A process that was suspended has not been without its database for that time.
            looked, looked_at = min(now - looked_at, 2 * pause), now
            if self.is_silent(looked):
                self._end()

    def is_silent(self, seconds: float) -> bool:
        """Return whether no heartbeat has ended, well or not, for too long; `seconds` is the time since the last look."""
        heartbeat = self._service.presence.heartbeat
        ended = heartbeat.succeeded_at, heartbeat.failures
        self._missing = 0.0 if ended != self._seen or ended == (None, 0) else self._missing + seconds
        self._seen = ended
        return self._missing > self._limit

    def _end(self) -> None:
        log.critical(
            "the database has not answered a heartbeat of this worker for %g s: other workers run its jobs, so it ends",
            self._limit,
        )
        logging.shutdown()
        os._exit(EXIT_CODE)
