"""Several services on one PostgreSQL database do everything at once, and lose connections, workers and processes meanwhile.

Then the rows are compared with what was accepted and seen. A failure says its seed: CHAOS_SEED and CHAOS_SECONDS choose.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from quart_async_api import TaskContext, task
from quart_async_api.access.caller import Caller
from quart_async_api.callbacks.deliveries import Outcome
from quart_async_api.errors import DatabaseUnavailable, ServiceError
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import later
from quart_async_api.services.idempotency import JobReply, Key, Reply
from quart_async_api.services.submissions import Callback, Options
from quart_async_api.tasks import Backoff

from .conftest import PATIENCE, Make, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from quart_async_api.jobs.history import Event

pytestmark = [pytest.mark.process, pytest.mark.soak, pytest.mark.timeout(600)]
SERVICES, CONCURRENCY, LIMIT, QUOTA, USERS = 4, 4, 70, 25, 30
WATCH_SECONDS = 0.02
OWNERS = (None, "ann", "bob", "cy")
TERMINAL = tuple(f"job.{status}" for status in Status if status.is_terminal)


@task("mixed", retries=1, backoff=Backoff(initial=0.0), retryable=(ValueError,))
async def mixed(ctx: TaskContext, *, seconds: float, fails: int) -> int:
    """Say something, and fail so many times."""
    await ctx.progress(1, 2)
    await asyncio.sleep(seconds)
    await ctx.log("half")
    if ctx.attempt <= fails:
        raise ValueError
    return ctx.attempt


@task("two", concurrency=2, retries=1, backoff=Backoff(initial=0.0), retryable=(ValueError,))
async def two(ctx: TaskContext, *, seconds: float, fails: int) -> int:
    """The same, two at once."""
    return await mixed(ctx, seconds=seconds, fails=fails)  # type: ignore[no-any-return]


@task(
    "one-each",
    concurrency=1,
    concurrency_key="seconds",
    retries=1,
    backoff=Backoff(initial=0.0),
    retryable=(ValueError,),
)
async def one_each(ctx: TaskContext, *, seconds: float, fails: int) -> int:
    """The same, one at once of each duration."""
    return await mixed(ctx, seconds=seconds, fails=fails)  # type: ignore[no-any-return]


class _Chaos:
    def __init__(self, make: Make, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self._make = make
        self.fleet: list[Service] = []
        self.accepted: dict[str, JobRecord] = {}
        self.seen: defaultdict[str, list[Event]] = defaultdict(list)
        self.seen_in_order: list[Event] = []
        self.keys: defaultdict[str, set[str]] = defaultdict(set)
        self.calling: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.is_over = self.has_ended = False

    async def service(self) -> Service:
        return await self._make(
            extra=[mixed, two, one_each],
            without=["each-minute"],
            job_concurrency=CONCURRENCY,
            job_queue_limit=LIMIT,
            job_quota=QUOTA,
            crash_limit=20,
            callback_concurrency=8,
            lease_seconds=1.0,
        )

    async def act(self) -> None:
        """Do one thing, which may be refused."""
        service = self.random.choice(self.fleet)
        acts: list[tuple[int, Callable[[Service], Awaitable[object]]]] = [
            (60, self.submit),
            (12, self.cancel),
            (6, self.retry),
            (6, self.call_back),
            (2, self.purge),
            (3, lambda service: service.users.create("a", f"{self.random.random()}@example.org", most=USERS)),
        ]
        [(_, act)] = self.random.choices(acts, [weight for weight, _ in acts])
        try:
            await act(service)
            self.outcomes[getattr(act, "__name__", "users")] += 1
        except ServiceError as error:
            self.outcomes[type(error).__name__] += 1
        except Exception:
            if service in self.fleet:  # else it was killed meanwhile
                raise

    async def submit(self, service: Service) -> None:
        chosen = self.random
        name = chosen.choice(("mixed", "two", "one-each"))
        callback = Callback(f"https://{chosen.randrange(3)}.example.org/", TERMINAL) if chosen.random() < 0.3 else None
        wanted = service.submissions.task(name)
        sent = {"seconds": chosen.choice((0.0, 0.01, 0.05)), "fails": chosen.choice((0, 0, 0, 1, 2))}
        owner = chosen.choice(OWNERS)
        run_at = service.submissions.later(0.2) if chosen.random() < 0.1 else None
        digest = f"key {chosen.randrange(200)}" if chosen.random() < 0.3 else None
        key = None
        if digest is not None:
            kept = Key(digest, "fingerprint", 600, owner or "")
            key = JobReply(kept, lambda job: Reply(202, {}, "", job.id))
        options = Options(chosen.randrange(3), run_at, callback=callback)
        job = await service.submissions.submit(
            wanted, service.submissions.arguments(wanted, sent), options, caller=Caller(owner), key=key
        )
        self.accepted[job.id] = job
        if digest is not None:
            self.keys[digest].add(job.id)

    async def cancel(self, service: Service) -> None:
        if self.accepted:
            await service.submissions.cancel(self.random.choice(list(self.accepted)))

    async def retry(self, service: Service) -> None:
        if self.accepted:
            job = await service.submissions.retry(self.random.choice(list(self.accepted)))
            self.accepted[job.id] = job

    async def purge(self, service: Service) -> None:
        await service.store.retention.purge(later(service.now(), -3), service.now(), 600)

    async def call_back(self, service: Service) -> None:
        """Send what is due, as Sender does: no other may call an origin meanwhile."""
        worker = service.presence.id
        for queue in await service.queues.claim(worker, service.now(), service.sender._shares):
            self.calling[queue.origin] += 1
            if await service.database.rows("SELECT 1 FROM workers WHERE id = ?", worker):
                held = await service.database.rows(
                    "SELECT COUNT(*) FROM callback_queues WHERE origin = ? AND worker IS NOT NULL", queue.origin
                )
                assert held[0][0] <= 1, queue
            for delivery in await service.deliveries.due(queue, service.now(), 10):
                outcome = Outcome(service.now(), 200, None, None, delivered=True)
                await service.deliveries.record(queue, worker, delivery, outcome, "")
            await service.queues.release(queue, worker, service.now())

    async def client(self) -> None:
        while not self.is_over:
            await self.act()
            await asyncio.sleep(self.random.random() * 0.01)

    async def faults(self) -> None:
        observer = self.fleet[0]
        while not self.is_over:
            await asyncio.sleep(self.random.random())
            match self.random.choice(("kill", "cut", "cut", "bury")):
                case "kill":
                    victim = self.fleet.pop(self.random.randrange(1, len(self.fleet)))
                    await victim.die()
                    with suppress(Exception):
                        await victim.commits.close()  # its last transaction needs the pool
                        await victim.database.stop()
                    self.fleet.append(await self.service())
                case "cut":
                    await observer.database.rows(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND state <> 'idle' ORDER BY random() LIMIT 1"
                    )
                case "bury":
                    live = self.random.choice(self.fleet)
                    with suppress(ServiceError):
                        await live.store.crashes.bury(live.presence.id, live.now(), 600, 20, '{"title": "crashed"}')

    async def limits(self) -> None:
        """Look whether a limit is exceeded at any moment."""
        observer = self.fleet[0]
        while not self.is_over:
            with suppress(DatabaseUnavailable):
                over = await observer.database.rows(
                    "SELECT 'slot ' || slot, COUNT(*) FROM jobs WHERE slot IS NOT NULL AND stage IN ('ready', 'running') "
                    "GROUP BY slot HAVING COUNT(*) > MIN(slot_limit) UNION ALL "
                    "SELECT 'quota ' || owner, COUNT(*) FROM jobs WHERE status IN ('queued', 'running') AND owner IS NOT NULL "
                    "GROUP BY owner HAVING COUNT(*) > ? UNION ALL "
                    "SELECT 'queue', COUNT(*) FROM jobs WHERE status = 'queued' "
                    "HAVING COUNT(*) > ? UNION ALL "
                    "SELECT 'users', COUNT(*) FROM users HAVING COUNT(*) > ?",
                    QUOTA,
                    LIMIT + SERVICES * CONCURRENCY,  # a run that fails or crashes lines up again
                    USERS,
                )
                assert over == []
            await asyncio.sleep(0.01)

    async def watch(self) -> None:
        history = self.fleet[0].store.history
        reader, in_order = history.new(), history.new_in_order()
        reader.position, in_order.position = await reader.now(), await in_order.now()
        quiet, patience = 0, 2 * PATIENCE / WATCH_SECONDS
        while not self.has_ended or quiet < 3 or (quiet < patience and not self.have_both_readers_seen_all):
            with suppress(DatabaseUnavailable):
                events, _ = await reader.read()
                for event in events:
                    self.seen[event.job_id].append(event)
                placed, _ = await in_order.read()
                self.seen_in_order += placed
                quiet = 0 if events or placed else quiet + 1
            await asyncio.sleep(WATCH_SECONDS)

    @property
    def have_both_readers_seen_all(self) -> bool:
        """A transaction that is open in any database of the server holds up the reader in order."""
        return len(self.seen_in_order) == sum(map(len, self.seen.values()))


@pytest.fixture(params=["embedded", "distributed"])
def job_engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(distributed_postgresql: str) -> str:
    return distributed_postgresql


async def test_nothing_is_lost_doubled_or_exceeded_while_services_do_everything_at_once(make: Make) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    seconds = float(os.environ.get("CHAOS_SECONDS") or 120)
    chaos = _Chaos(make, seed)
    chaos.fleet = [await chaos.service() for _ in range(SERVICES)]
    observer = chaos.fleet[0]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(chaos.watch())
        await asyncio.sleep(0.1)
        others = [chaos.faults(), chaos.limits(), *(chaos.client() for _ in range(24))]
        tasks = [group.create_task(each) for each in others]
        await asyncio.sleep(seconds)
        chaos.is_over = True
        await asyncio.wait(tasks)

        async def unfinished() -> list[Any]:
            return await observer.database.rows(
                "SELECT id, task, stage, worker FROM jobs WHERE status IN ('queued', 'running')"
            )

        for _ in range(1200):
            if not await unfinished():
                break
            await asyncio.sleep(0.1)
        chaos.has_ended = True
        await watching
        left = await unfinished()
    assert left == [], f"seed {seed}"
    assert chaos.outcomes["submit"] > seconds, chaos.outcomes
    faults = await _faults(chaos, observer)
    assert faults == [], f"seed {seed}"


async def _faults(chaos: _Chaos, service: Service) -> list[object]:
    rows = service.database.rows
    found: list[object] = []
    there = {row[0] for row in await rows("SELECT id FROM jobs UNION ALL SELECT id FROM job_tombstones")}
    found += [("lost", job_id) for job_id in chaos.accepted if job_id not in there]
    found += [("one key, several jobs", key, ids) for key, ids in chaos.keys.items() if len(ids) > 1]
    for job_id, events in chaos.seen.items():
        numbers = [event.number for event in events]
        ends = [event.name for event in events if Status.is_terminal_name(event.name)]
        if numbers != list(range(1, len(numbers) + 1)) or len(ends) != 1 or events[-1].name != ends[0]:
            found.append(("events", job_id, [(event.number, event.name) for event in events]))
    found += [("no events", job_id) for job_id in chaos.accepted if job_id not in chaos.seen]
    once = Counter((event.job_id, event.number) for event in chaos.seen_in_order)
    by_job = Counter((event.job_id, event.number) for events in chaos.seen.values() for event in events)
    found += [("all jobs, not of one", item) for item in (once - by_job).items()]
    found += [("of one, not all jobs", item) for item in (by_job - once).items()]
    places = [event.place for event in chaos.seen_in_order]
    if places != sorted(places):
        found.append("the events of all jobs are out of order")
    used = "SELECT owner, unfinished, jobs, bytes FROM job_usage WHERE jobs <> 0 OR bytes <> 0 OR unfinished <> 0"
    counted = (
        "SELECT owner, SUM(n), SUM(jobs), SUM(bytes) FROM (SELECT COALESCE(owner, '') AS owner, 0 AS n, 1 AS jobs, bytes "
        "FROM jobs UNION ALL SELECT owner, 0, 0, bytes FROM idempotency_keys) AS stored GROUP BY owner"
    )
    if sorted(await rows(used)) != sorted(await rows(counted)):
        found.append(("usage", await rows(used), await rows(counted)))
    found += await rows("SELECT 'ticket', queueing_lock FROM procrastinate_jobs WHERE status = 'todo'")
    found += await rows("SELECT 'stage of an ended job', id, stage FROM jobs WHERE stage IS NOT NULL")
    found += await rows("SELECT 'deliveries', job_id FROM callback_deliveries GROUP BY job_id HAVING COUNT(*) <> 1")
    found += await rows(
        "SELECT 'no delivery', id FROM jobs WHERE callback_url IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM callback_deliveries d WHERE d.job_id = jobs.id)"
    )
    found += await rows(
        "SELECT 'pending and not due', origin, owner FROM callback_deliveries d WHERE status = 'pending' AND NOT EXISTS "
        "(SELECT 1 FROM callback_queues q WHERE q.origin = d.origin AND q.owner = d.owner "
        "AND (q.next_at IS NOT NULL OR q.worker IS NOT NULL))"
    )
    found += await rows("SELECT 'attempts', message_id FROM callback_attempts GROUP BY message_id HAVING COUNT(*) <> 1")
    found += await rows(
        "SELECT 'numbers', id FROM jobs WHERE last_event <> (SELECT COUNT(*) FROM job_events e WHERE e.job_id = jobs.id)"
    )
    return found
