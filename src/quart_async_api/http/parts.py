"""The parts of the service that a route may use, as app.py wired them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from quart import current_app

from ..db.connection import Database
from ..jobs.embedded import EmbeddedEngine
from ..jobs.events import EventFeed
from ..jobs.loop import LagMeter, Loop
from ..jobs.store import JobStore
from ..lifecycle import Lifecycle
from ..services.access_tokens import AccessTokens
from ..services.admissions import Admissions
from ..services.callbacks import Callbacks
from ..services.idempotency import Idempotency
from ..services.key_ring import KeyRing
from ..services.rate_limits import RateLimits
from ..services.refusals import Refusals
from ..services.submissions import Submissions
from ..settings import Settings
from ..tasks import Task
from .bounds import Streams

EXTENSION = "quart_async_api"


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    lifecycle: Lifecycle
    database: Database
    tasks: Mapping[str, Task]
    resources: Mapping[type, object]
    store: JobStore
    feed: EventFeed
    engine: EmbeddedEngine
    submissions: Submissions
    idempotency: Idempotency
    callbacks: Callbacks
    limits: RateLimits | None
    refusals: Refusals
    streams: Streams
    key_ring: KeyRing
    access_tokens: AccessTokens
    admissions: Admissions
    loops: tuple[Loop, ...]
    lag: LagMeter
    keys_in_flight: set[str] = field(default_factory=set)


def parts() -> Parts:
    """The parts of the app that handles this request."""
    return cast("Parts", current_app.extensions[EXTENSION])
