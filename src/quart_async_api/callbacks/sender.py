"""Sends callbacks: one at a time to each origin, in turn over keys, with retries on the schedule."""

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING

from ..background.loops import Loop
from ..background.tasks import BackgroundTasks
from ..db.failures import as_unavailable
from ..db.notifications import Notifications, Wake
from ..errors import DatabaseUnavailable
from ..jobs.presence import Presence
from ..moments import Clock, later, timestamp, utc_now
from ..settings import Settings
from ..stored import set_aside
from .deliveries import GAVE_UP, GONE, REVOKED, Deliveries, Delivery, Next, Outcome
from .outbox import PROGRESS
from .post import Answer, Poster
from .queues import AT_ONCE, CallbackQueues, Queue
from .secrets import WebhookSecrets
from .shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # between looks for due queues, also those of other processes whose wake-up is lost
ORPHANS_SECONDS = 5.0
BATCH = 20  # deliveries in one turn of a queue
TURN_SECONDS = 1.0  # after which a turn starts no more deliveries: other keys wait for the origin and the slot
JITTER = 0.1  # share of the wait, added to it: callbacks that failed together retry at different times
BREAKER_FAILURES = 5  # consecutive failures that open the breaker of a queue
BREAKER_SECONDS = 300.0  # longest time without an attempt while a breaker is open
LONGEST_RETRY_AFTER = 86_400.0
PATIENCE_SECONDS = 3600.0  # least time before a closed queue gives up, even with a short schedule


class Sender:
    """Claims due queues, sends their callbacks and records the outcomes. Any number of processes share the work."""

    def __init__(
        self,
        queues: CallbackQueues,
        deliveries: Deliveries,
        poster: Poster,
        secrets: WebhookSecrets,
        presence: Presence,
        settings: Settings,
        notifications: Notifications,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._queues = queues
        self._deliveries = deliveries
        self._poster = poster
        self._secrets = secrets
        self._presence = presence
        self._settings = settings
        self._notifications = notifications
        self._clock = clock
        self._random = random.SystemRandom()
        self._open = True
        self._serving: dict[Queue, asyncio.Task[None]] = {}
        self._shares = Shares(settings.callback_concurrency)
        self._claiming = asyncio.Lock()  # while the held and the served queues may differ
        self._background = BackgroundTasks()
        self.on_tried: Callable[[str], None] = lambda outcome: None  # delivered, failed or given_up
        presence.on_lost.append(self._lose_everything)
        notifications.on(Wake.CALLBACKS, lambda _: self.wake())
        self._dispatching = Loop("callback dispatcher", self._dispatch, every=POLL_SECONDS)
        orphans = Loop("sweep for orphaned callbacks", self._free_orphans, every=ORPHANS_SECONDS)
        presence.on_buried.append(lambda worker: orphans.wake())
        self.loops = (self._dispatching, orphans)

    def _now(self) -> str:
        return timestamp(self._clock())

    def wake(self) -> None:
        """Look for due callbacks now, not at the next poll."""
        self._dispatching.wake()

    def committed(self) -> None:
        """Send what this process has committed. If it is busy, other processes help."""
        self.wake()
        if self._serving or not self._open:
            self._notifications.tell(Wake.CALLBACKS)

    def start(self) -> None:
        self._background = BackgroundTasks()
        for loop in self.loops:
            self._background.spawn(loop.run(), name=loop.name)

    async def until_idle(self) -> bool:
        """Send due callbacks, and wait until these tries have ended. Return False if none was due."""
        await self._dispatch()
        async with self._claiming:  # the dispatcher may be about to serve what it has claimed
            serving = set(self._serving.values())
        if serving:
            await asyncio.wait(serving)
        return bool(serving)

    async def drain(self, grace: float) -> None:
        """Start no new attempts, and wait at most `grace` seconds for the running ones. Other processes send the rest."""
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
        if await self._queues.free_orphans() | await self._queues.free_from_the_future(self._now()):
            self.wake()
        async with self._claiming:
            worker = self._presence.id
            for queue in await self._queues.held(worker) - self._serving.keys():
                # The outcome of the transaction that claimed or released it is unknown.
                await self._queues.release(queue, worker, self._now())

    async def _dispatch(self) -> None:
        if self._open and self._shares.free > 0 and await self._queues.is_due(self._now()):
            async with self._claiming:
                worker = self._presence.id
                claimed = await self._queues.claim(worker, self._now(), self._shares)
                for queue, failures in claimed.items():
                    self._shares.take(queue.owner)
                    serving = self._serve(queue, worker, failures)
                    self._serving[queue] = self._background.spawn(serving, name=f"callbacks to {queue.origin}")
                    self._serving[queue].add_done_callback(partial(self._served, queue))

    def _served(self, queue: Queue, task: asyncio.Task[None]) -> None:
        self._shares.give_back(queue.owner)
        if self._serving.get(queue) is task:  # else lost, and claimed anew
            del self._serving[queue]
        self.wake()

    async def _serve(self, queue: Queue, worker: str, failures: int) -> None:
        """Give a queue one turn."""
        try:
            await self._send_each(await self._deliveries.due(queue, self._now(), BATCH), queue, worker, failures)
            if await self._is_revoked(queue):
                self._report_others(queue, await self._deliveries.refuse(queue, self._now()), REVOKED)
        except DatabaseUnavailable as error:
            log.warning("callbacks to %s wait: %s", queue.origin, error)
            await asyncio.sleep(POLL_SECONDS)  # what may have been sent is sent again, but not in a tight loop
        except Exception:
            log.exception("callbacks to %s wait", queue.origin)
            await asyncio.sleep(ORPHANS_SECONDS)
        finally:
            async with self._claiming:
                now = self._now()
                try:
                    # Where the key has no slot left, its other queues go first.
                    behind = AT_ONCE if self._shares.may_take(queue.owner) else now
                    await self._queues.release(queue, worker, now, behind)
                except DatabaseUnavailable as error:
                    log.warning("%s is not let go of yet: %s", queue.origin, error)

    async def _send_each(self, deliveries: list[Delivery], queue: Queue, worker: str, failures: int) -> None:
        """Send them in turn, until one fails or the turn is over."""
        over_at = asyncio.get_running_loop().time() + TURN_SECONDS
        for delivery in deliveries:
            if not self._open or (not delivery.forced and await self._is_revoked(queue)):
                return
            try:
                if delivery.type == PROGRESS and await self._deliveries.is_superseded(delivery.message_id):
                    await self._deliveries.drop(delivery.message_id, self._now())
                    continue
                following = await self._send(delivery, queue, worker, failures)
            except Exception as error:
                if as_unavailable(error) is not None:
                    raise
                log.exception("callback %s cannot be sent and has failed; other callbacks go on", delivery.message_id)
                set_aside(f"callback {delivery.message_id}")
                await self._deliveries.set_aside(delivery.message_id, type(error).__name__, self._now())
                continue
            if following is not Next.GO_ON or asyncio.get_running_loop().time() >= over_at:
                return
            failures = 0

    async def _send(self, delivery: Delivery, queue: Queue, worker: str, failures: int) -> Next:
        """Send one delivery and record its outcome. Return whether to go on with the next."""
        secrets = await self._secrets.signing(delivery.owner)
        answer = await self._poster.post(delivery, secrets, int(self._clock().timestamp()))
        outcome = self._outcome(delivery, answer, failures)
        give_up_before = later(outcome.at, -self._patience())
        following, others = await self._deliveries.record(queue, worker, delivery, outcome, give_up_before)
        given_up = not outcome.delivered and outcome.again_at is None and following is not Next.LOST
        self.on_tried("delivered" if outcome.delivered else "given_up" if given_up else "failed")
        log.log(
            logging.WARNING if given_up else logging.INFO,
            "callback %s to %s: %s in try %d%s",
            delivery.message_id,
            queue.origin,
            answer.error or f"status {answer.status}",
            delivery.tries + 1,
            ", given up" if given_up else "" if outcome.delivered else f", again at {outcome.again_at}",
            extra={
                "message_id": delivery.message_id,
                "origin": queue.origin,
                "status": answer.status,
                "tries": delivery.tries + 1,
            },
        )
        self._report_others(queue, others, GONE if outcome.gone else GAVE_UP)
        return following if outcome.alive or following is Next.LOST else Next.PAUSE

    def _report_others(self, queue: Queue, number: int, why: str) -> None:
        """Log the callbacks that were given up without an attempt."""
        if number:
            message = "%d callbacks to %s given up: %s"
            log.warning(message, number, queue.origin, why, extra={"origin": queue.origin, "callbacks": number})

    async def _is_revoked(self, queue: Queue) -> bool:
        """Return whether to refuse the callbacks of this queue because its key is revoked."""
        if not queue.owner or self._settings.callback_after_revoke:
            return False
        return await self._deliveries.is_revoked(queue.owner)

    def _patience(self) -> float:
        return max(PATIENCE_SECONDS, sum(self._settings.callback_schedule) * (1 + JITTER))

    def _outcome(self, delivery: Delivery, answer: Answer, failures: int) -> Outcome:
        """Classify a response (Standard Webhooks 1.0): 2xx is success, 410 is final, other responses are retried."""
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
