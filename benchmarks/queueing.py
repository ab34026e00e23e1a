"""A simulation of the queueing of jobs in a fleet, from measured unit costs: docs/explanation/scale.md shows what it says.

Requests arrive at random (Poisson). Each API process commits the submissions that wait in one transaction at a time. A worker
takes up to 25 tickets in one transaction at a time, and commits the ends of its runs in the same way. A transaction needs one
core of the database for a fixed time, and for a time for each of its jobs. A wake-up reaches the workers 5 ms after a commit: 8
of them look for tickets at once, on average, and the others within 0.1 s, once for all wake-ups of this time.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. `fixed` and `each`: CPU of the database for a transaction, and for a job in it.

    A job has three of them: together 0.4 ms where they are shared as in benchmarks/distributed.py. `empty`: for a take without
    a ticket. `latency`: from the end of this work until the process has the answer: round trips, and the flush of the commit.
    """

    fixed: float = 0.0003
    each: float = 0.00008
    empty: float = 0.0001
    latency: float = 0.004


@dataclass(frozen=True, slots=True)
class Fleet:
    """`cores`: of the database. `running`: jobs of one worker at a time. `seconds`: that a job runs."""

    workers: int
    apis: int = 2
    cores: int = 8
    running: int = 100
    seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds from the submission to the start of a job, and the share of the database's cores that was busy."""

    median: float
    p99: float
    busy: float


BATCH = 25  # as in jobs/distributed.py
GAP_SECONDS = 0.005  # as in db/notifications.py
AT_ONCE, LATER_SECONDS = 8, 0.1  # as in jobs/wake_ups.py


@lru_cache
def simulate(fleet: Fleet, rate: float, jobs: int = 3000, costs: Costs = Costs(), seed: int = 1) -> Found:
    """What `jobs` jobs wait that arrive at `rate` a second. The first fifth is left out: the fleet was empty."""
    return _Simulation(fleet, costs, random.Random(seed)).run(rate, jobs)  # noqa: S311  no secret


class _Simulation:
    def __init__(self, fleet: Fleet, costs: Costs, chance: random.Random) -> None:
        self._fleet, self._costs, self._chance = fleet, costs, chance
        self._now, self._number, self._busy = 0.0, 0, 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._cores = [0.0] * fleet.cores  # when each is free
        self._tickets: deque[int] = deque()
        self._started: dict[int, float] = {}
        self._running = [0] * fleet.workers
        self._taking, self._again = [False] * fleet.workers, [False] * fleet.workers
        self._waking, self._later = [False] * fleet.apis, [False] * fleet.workers
        self._submitting = [_Batches(self, self._submitted) for _ in range(fleet.apis)]
        self._ending = [_Batches(self, self._ended) for _ in range(fleet.workers)]

    def run(self, rate: float, jobs: int) -> Found:
        arrivals, at = [], 0.0
        for job in range(jobs):
            at += self._chance.expovariate(rate)
            arrivals.append(at)
            self.at(at, lambda job=job: self._submitting[job % self._fleet.apis].add(job % self._fleet.apis, job))  # type: ignore[misc]
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event()
        waits = [self._started[job] - arrivals[job] for job in range(jobs // 5, jobs)]
        return Found(median(waits), quantiles(waits, n=100)[98], self._busy / (self._now * self._fleet.cores))

    def at(self, moment: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, event))

    def transaction(self, work: float, then: Callable[[], None]) -> None:
        """Use the first free core of the database, and go on when the answer is there."""
        end = max(self._now, heapq.heappop(self._cores)) + work
        heapq.heappush(self._cores, end)
        self._busy += work
        self.at(end + self._costs.latency, then)

    def work(self, jobs: int) -> float:
        return self._costs.fixed + self._costs.each * jobs if jobs else self._costs.empty

    def _submitted(self, api: int, jobs: list[int]) -> None:
        self._tickets.extend(jobs)
        if not self._waking[api]:
            self._waking[api] = True
            self.at(self._now + GAP_SECONDS, lambda: self._wake(api))

    def _wake(self, api: int) -> None:
        self._waking[api] = False
        first, processes = self._number % self._fleet.workers, self._fleet.workers + self._fleet.apis
        for place in range(self._fleet.workers):
            worker = (first + place) % self._fleet.workers
            if self._chance.random() * processes < AT_ONCE:
                self._take(worker)
            elif not self._later[worker]:
                self._later[worker] = True
                self.at(self._now + LATER_SECONDS * self._chance.random(), lambda worker=worker: self._look(worker))  # type: ignore[misc]

    def _look(self, worker: int) -> None:
        self._later[worker] = False
        self._take(worker)

    def _take(self, worker: int) -> None:
        room = min(BATCH, self._fleet.running - self._running[worker])
        if self._taking[worker] or room <= 0:
            self._again[worker] = True
            return
        jobs = [self._tickets.popleft() for _ in range(min(room, len(self._tickets)))]
        self._running[worker] += len(jobs)
        self._taking[worker], self._again[worker] = True, len(jobs) == room
        self.transaction(self.work(len(jobs)), lambda: self._taken(worker, jobs))

    def _taken(self, worker: int, jobs: list[int]) -> None:
        self._taking[worker] = False
        for job in jobs:
            self._started[job] = self._now
            self.at(self._now + self._fleet.seconds, lambda job=job: self._ending[worker].add(worker, job))  # type: ignore[misc]
        if self._again[worker]:
            self._take(worker)

    def _ended(self, worker: int, jobs: list[int]) -> None:
        self._running[worker] -= len(jobs)
        if self._again[worker]:
            self._take(worker)


class _Batches:
    """What comes while a transaction runs shares the next one."""

    def __init__(self, simulation: _Simulation, done: Callable[[int, list[int]], None]) -> None:
        self._simulation, self._done = simulation, done
        self._waiting: list[int] = []
        self._is_busy = False

    def add(self, place: int, job: int) -> None:
        self._waiting.append(job)
        self._go_on(place)

    def _go_on(self, place: int) -> None:
        if self._waiting and not self._is_busy:
            self._is_busy = True
            batch, self._waiting = self._waiting, []
            self._simulation.transaction(self._simulation.work(len(batch)), lambda: self._committed(place, batch))

    def _committed(self, place: int, batch: list[int]) -> None:
        self._is_busy = False
        self._done(place, batch)
        self._go_on(place)
