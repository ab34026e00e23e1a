"""Sends what the outbox holds: one at a time and in order to each origin, again on the schedule, until each is delivered."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

from ..errors import DatabaseUnavailable
from ..jobs.background import BackgroundTasks
from ..jobs.loop import Loop
from ..jobs.presence import Presence
from ..jobs.states import later, timestamp
from ..settings import Settings
from .outbox import AT_ONCE, PROGRESS
from .post import Answer, Poster
from .secrets import WebhookSecrets
from .store import Delivery, DeliveryStore, Next, Outcome

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # how late what other processes left, or what has waited, is seen
ORPHANS_SECONDS = 5.0
BATCH = 20  # deliveries read at once
JITTER = 0.1  # of the wait, on top of it, so that what failed together does not come back together
BREAKER_FAILURES = 5  # tries in a row, after which an origin is left alone
BREAKER_SECONDS = 300.0  # the longest that it is left alone without a try
LONGEST_RETRY_AFTER = 86_400.0
PATIENCE_SECONDS = 3600.0  # with an origin that stays closed, however short the schedule


class Sender:
    """Claims origins to which something is due, sends, and writes what came of it. Any number of processes share the work."""

    def __init__(
        self,
        store: DeliveryStore,
        poster: Poster,
        secrets: WebhookSecrets,
        presence: Presence,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._poster = poster
        self._secrets = secrets
        self._presence = presence
        self._settings = settings
        self._clock = clock
        self._random = random.SystemRandom()
        self._open = True
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._claiming = asyncio.Lock()  # while what is held and what is served may differ
        self._background = BackgroundTasks()
        presence.on_lost.append(self._lose_everything)
        self._dispatching = Loop("callback dispatcher", self._dispatch, every=POLL_SECONDS)
        orphans = Loop("sweep for orphaned origins", self._free_orphans, every=ORPHANS_SECONDS)
        presence.on_buried.append(lambda worker: orphans.wake())
        self.loops = (self._dispatching, orphans)

    def _now(self) -> str:
        return timestamp(self._clock())

    def wake(self) -> None:
        """Something is due: look now, not at the next poll."""
        self._dispatching.wake()

    def start(self) -> None:
        self._background = BackgroundTasks()
        for loop in self.loops:
            self._background.spawn(loop.run(), name=loop.name)

    async def drain(self, grace: float) -> None:
        """Begin nothing new; end what is being sent within `grace` seconds. The rest is sent by whoever comes next."""
        self._open = False
        self._dispatching.end()
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=grace)
        await self.stop()

    async def stop(self) -> None:
        self._open = False
        await self._background.close(grace=0.5)

    def _lose_everything(self) -> None:
        for serving in self._serving.values():
            serving.cancel()

    async def _free_orphans(self) -> None:
        if await self._store.free_orphans():
            self.wake()
        async with self._claiming:
            worker = self._presence.id
            for origin in await self._store.held(worker) - self._serving.keys():
                # Claimed, or let go of, by a transaction that was not heard of.
                await self._store.release(origin, worker)

    async def _dispatch(self) -> None:
        free = self._settings.callback_concurrency - len(self._serving)
        if self._open and free > 0 and await self._store.is_due(self._now()):
            async with self._claiming:
                worker = self._presence.id
                claimed = await self._store.claim(worker, self._now(), free)
                for origin, failures in claimed.items():
                    serving = self._serve(origin, worker, failures)
                    self._serving[origin] = self._background.spawn(serving, name=f"callbacks to {origin}")

    async def _serve(self, origin: str, worker: str, failures: int) -> None:
        """Send to an origin until nothing is due there, or it is to be left alone."""
        seen: int | None = failures
        behind = AT_ONCE
        try:
            while seen is not None and (deliveries := await self._store.due(origin, self._now(), BATCH)):
                seen = await self._send_each(deliveries, origin, worker, seen)
                if self._is_full():
                    behind = self._now()  # others wait for a slot
                    break
        except DatabaseUnavailable as error:
            log.warning("callbacks to %s wait: %s", origin, error)
            await asyncio.sleep(POLL_SECONDS)  # what may have been sent is sent again, but not in a tight loop
        except Exception:
            log.exception("callbacks to %s wait", origin)
            await asyncio.sleep(ORPHANS_SECONDS)
        finally:
            async with self._claiming:
                try:
                    await self._store.release(origin, worker, behind)
                except DatabaseUnavailable as error:
                    log.warning("%s is not let go of yet: %s", origin, error)
                finally:
                    if self._serving.get(origin) is asyncio.current_task():  # else lost, and claimed anew
                        del self._serving[origin]
            self.wake()

    async def _send_each(self, deliveries: list[Delivery], origin: str, worker: str, failures: int) -> int | None:
        """Send them in turn; how many tries in a row have failed by then, or None: to be left alone."""
        for delivery in deliveries:
            if not self._open:
                return None
            if delivery.type == PROGRESS and await self._store.is_superseded(delivery.message_id):
                await self._store.drop(delivery.message_id, self._now())
                continue
            secrets = await self._secrets.signing(delivery.owner)
            answer = await self._poster.post(delivery, secrets, int(self._clock().timestamp()))
            outcome = self._outcome(delivery, answer, failures)
            give_up_before = later(outcome.at, -self._patience())
            following = await self._store.record(origin, worker, delivery, outcome, give_up_before)
            log.info(
                "callback %s: %s",
                delivery.message_id,
                answer.status or answer.error,
                extra={"message_id": delivery.message_id, "origin": origin, "status": answer.status},
            )
            if following is not Next.GO_ON or (self._is_full() and not outcome.alive):
                return None
            failures = 0 if outcome.alive else failures + 1
        return failures

    def _is_full(self) -> bool:
        return len(self._serving) >= self._settings.callback_concurrency

    def _patience(self) -> float:
        return max(PATIENCE_SECONDS, sum(self._settings.callback_schedule) * (1 + JITTER))

    def _outcome(self, delivery: Delivery, answer: Answer, failures: int) -> Outcome:
        """What a try means (Standard Webhooks 1.0): 2xx is success, 410 is never again, the rest is tried again."""
        now, schedule = self._now(), self._settings.callback_schedule
        delivered = answer.status is not None and 200 <= answer.status < 300
        alive = answer.status is not None and answer.status < 500 and answer.status != 429
        retry_after = min(answer.retry_after, LONGEST_RETRY_AFTER)
        again_at = closed_until = None
        if not delivered and answer.status != 410 and delivery.tries + 1 < len(schedule):
            wait = schedule[delivery.tries + 1] * (1 + self._random.uniform(0, JITTER))
            again_at = later(now, max(wait, retry_after))
        if not alive:
            tripped = failures + 1 - BREAKER_FAILURES
            closed = 0.0 if tripped < 0 else min(BREAKER_SECONDS, schedule[min(tripped + 1, len(schedule) - 1)])
            if (closed := max(closed, retry_after)) > 0:
                closed_until = later(now, closed)
        return Outcome(
            now,
            answer.status,
            answer.error,
            answer.body,
            delivered=delivered,
            gone=answer.status == 410,
            alive=alive,
            again_at=again_at,
            closed_until=closed_until,
        )
