"""Ends a worker that cannot reach its database: its jobs run elsewhere by then, and its own runs must not go on beside them."""

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from ..service import Service

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)

LEASES = 2.0  # without a heartbeat
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h


class Watchdog:
    """A thread, because the event loop may be what hangs. It starts to watch with the first heartbeat."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = LEASES * service.settings.lease_seconds

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        heartbeat, pause = self._service.presence.heartbeat, self._limit / 20
        seen: datetime | None = None
        missing, looked_at = 0.0, time.monotonic()
        while not self._service.lifecycle.draining.is_set():
            time.sleep(pause)
            now = time.monotonic()
            # A process that was suspended has not been without its database for that time.
            looked, looked_at = min(now - looked_at, 2 * pause), now
            beaten = heartbeat.succeeded_at
            missing = 0.0 if beaten is None or beaten != seen else missing + looked
            seen = beaten
            if missing > self._limit:
                self._end()

    def _end(self) -> None:
        log.critical(
            "no heartbeat of this worker has reached the database for %g s: other workers run its jobs, so it ends",
            self._limit,
        )
        logging.shutdown()
        os._exit(EXIT_CODE)
