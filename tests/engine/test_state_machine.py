"""The store of jobs against a model of it in plain Python, through whatever order of events hypothesis thinks of."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.errors import JobExpired, JobNotFound, QueueFull, TaskCrashed, TaskFailed
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.jobs.store import JobStore
from quart_async_api.moments import later
from quart_async_api.problem_types import describe

T = TypeVar("T")

SUBMITTED = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(-1, 1),
        st.sampled_from([0, 0, 0, 3]),
        st.sampled_from([None, "key a", "key b"]),
        st.sampled_from([None, None, "one at once", "two at once"]),
    ),
    min_size=1,
    max_size=3,
)
SLOTS = {"one at once": 1, "two at once": 2}

WORKERS = ("north", "south", "west")
CRASH_LIMIT = 2
QUEUE_LIMIT = 5
MAX_EVENTS = 4
TTL = 20
NOW = "2026-01-01T00:00:00.000000Z"
ERROR = describe(TaskFailed("it failed"))
CRASHED = describe(TaskCrashed("it crashed too often"))


@dataclass
class Model:
    """What is to be known about a job."""

    id: str
    priority: int
    created_at: str
    run_at: str
    status: str = "queued"
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    token: str | None = None
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    cancel_requested_at: str | None = None
    progress: dict[str, Any] | None = None
    outcome: dict[str, Any] = field(default_factory=dict)  # its result or error
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    owner: str | None = None
    slot: str | None = None
    stage: str | None = "delayed"
    turn: int | None = None

    @property
    def place(self) -> tuple[int, int, str]:
        assert self.turn is not None
        return -self.priority, self.turn, self.id

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "task": "task",
            "status": self.status,
            "args": {"of": self.id},
            "priority": self.priority,
            "progress": self.progress,
            "attempt": self.attempt,
            "max_attempts": 3,
            "created_at": self.created_at,
            "run_at": self.run_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "expires_at": self.expires_at,
            "cancel_requested_at": self.cancel_requested_at,
            **self.outcome,
            "links": {
                "self": f"/jobs/{self.id}",
                "result": f"/jobs/{self.id}/result",
                "events": f"/jobs/{self.id}/events",
                "websocket": f"/jobs/{self.id}/ws",
                "callbacks": f"/jobs/{self.id}/callbacks",
            },
        }

    def stop(self, now: str, outcome: str, error: dict[str, Any] | None) -> None:
        """The attempt is over."""
        self.attempts.append(
            {
                "number": self.attempt,
                "started_at": self.started_at,
                "finished_at": now,
                "outcome": outcome,
                "error": error,
            }
        )
        self.token = self.worker = None

    def again(self, now: str, outcome: str, error: dict[str, Any] | None, run_at: str) -> None:
        self.stop(now, outcome, error)
        self.status = "queued"
        self.events.append(("retry", {"attempt": self.attempt, "run_at": run_at, "error": error}))

    def end(self, now: str, status: str, **outcome: dict[str, Any]) -> None:
        """The job is over."""
        self.status, self.finished_at, self.expires_at, self.outcome = status, now, later(now, TTL), outcome
        self.stage = None
        self.events.append((status, self.document()))


@dataclass
class Queue:
    """Who runs next: owners in turn, and no more of a slot than may."""

    jobs: dict[str, Model]
    reached: dict[int, int] = field(default_factory=dict)

    def staged(self, *stages: str, slot: str | None = None) -> list[Model]:
        return [job for job in self.jobs.values() if job.stage in stages and slot in (None, job.slot)]

    def begun_in_the_future(self, now: str) -> list[Model]:
        found = [job for job in self.staged("delayed") if job.started_at and job.started_at > later(now, 60)]
        return sorted(found, key=lambda job: (job.started_at, job.id))

    def due(self, now: str) -> list[Model]:
        found = sorted(
            (job for job in self.staged("delayed") if job.run_at <= now), key=lambda job: (job.run_at, job.id)
        )
        return found + [job for job in self.begun_in_the_future(now) if job not in found]

    def ready(self, job: Model) -> None:
        mine = [one for one in self.staged("ready") if (one.owner, one.priority) == (job.owner, job.priority)]
        job.turn = max([self.reached.get(job.priority, 0), *(one.turn or 0 for one in mine)]) + 1
        job.stage = "ready"

    def has_room(self, slot: str) -> bool:
        return len(self.staged("ready", "running", slot=slot)) < SLOTS[slot]

    def put(self, job: Model) -> None:
        if job.slot and not self.has_room(job.slot):
            less = [one for one in self.staged("ready", slot=job.slot) if one.priority < job.priority]
            if not less:
                job.stage, job.turn = "held", None
                return
            out = max(less, key=lambda one: (-one.priority, one.owner or "", one.id))
            out.stage, out.turn = "held", None
        if job.turn is None:
            self.ready(job)
        job.stage = "ready"

    def left(self, gone: Model) -> None:
        """A place in the slot of `gone` may be free."""
        owner = gone.owner
        while gone.slot and (held := self.staged("held", slot=gone.slot)) and self.has_room(gone.slot):
            most = max(job.priority for job in held)
            after = [job for job in held if job.priority == most]
            # In a circle of all owners, those without one last, from the one after `owner` on.
            names = sorted({job.owner or "~" for job in after})
            owner_ = next((name for name in names if name > (owner or "~")), names[0])
            self.ready(min((job for job in after if (job.owner or "~") == owner_), key=lambda job: job.id))
            owner = None if owner_ == "~" else owner_

    def claim(self, now: str, limit: int) -> list[Model]:
        for job in self.due(now):
            self.put(job)
        first = sorted(self.staged("ready"), key=lambda job: job.place)[:limit]
        for job in first:
            job.stage = "running"
            self.reached[job.priority] = max(self.reached.get(job.priority, 0), job.turn or 0)
        return first


class Jobs(RuleBasedStateMachine):
    """Jobs are chosen among those to which something can happen, and tokens among those that were ever given out."""

    def __init__(self, template: Path, folder: Path) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.file = shutil.copy(template, folder / "app.db")
        self.now = NOW
        self.numbers = count(1)
        self.model: dict[str, Model] = {}
        self.queue = Queue(self.model)
        self.expired: set[str] = set()
        self.given: list[tuple[str, str]] = []  # every run there ever was: its job and its token
        self.beats: dict[str, int] = {}
        self.open()
        for worker in WORKERS:
            self.register(worker)

    def open(self) -> None:
        self.database = Database(f"sqlite://{self.file}")
        self.commits = GroupCommit(self.database)
        self.store = JobStore(self.database, self.commits)
        self.do(self.database.start)

    def close(self) -> None:
        self.do(self.commits.close)
        self.do(self.database.stop)

    def teardown(self) -> None:
        self.close()
        self.loop.close()
        for file in Path(self.file).parent.iterdir():
            file.unlink()

    def do(self, call: Callable[[], Awaitable[T]]) -> T:
        async def bound() -> T:
            with self.database.bind():
                return await call()

        return self.loop.run_until_complete(bound())

    def register(self, worker: str) -> None:
        self.do(lambda: self.store.workers.register(worker, self.now))
        self.beats[worker] = 0

    def having(self, *statuses: str) -> list[Model]:
        return [job for job in self.model.values() if job.status in statuses]

    def run(self, data: st.DataObject) -> tuple[Model, str]:
        """One that goes on, those that are asked to stop more often than by chance."""
        running = self.having("running")
        asked = [job for job in running if job.cancel_requested_at]
        job = data.draw(st.sampled_from(running + asked))
        assert job.token
        return job, job.token

    # What a caller does

    @initialize(wanted=SUBMITTED)
    def begin(self, wanted: list[tuple[int, int, int, str | None, str | None]]) -> None:
        self.insert(wanted)

    @rule(wanted=SUBMITTED)
    def submit(self, wanted: list[tuple[int, int, int, str | None, str | None]]) -> None:
        self.insert(wanted)

    def insert(self, wanted: list[tuple[int, int, int, str | None, str | None]]) -> None:
        for first, priority, delay, owner, slot in wanted:
            # Ids sort as time does, roughly: processes have clocks of their own.
            job = Model(
                f"{first}-{next(self.numbers)}", priority, self.now, later(self.now, delay), owner=owner, slot=slot
            )
            row = JobRecord(
                id=job.id,
                task="task",
                status=Status.QUEUED,
                args=f'{{"of": "{job.id}"}}',
                urgency=-priority,
                max_attempts=3,
                timeout=None,
                created_at=job.created_at,
                run_at=job.run_at,
                owner=owner,
                slot=slot,
                slot_limit=SLOTS.get(slot or ""),
            )
            if len(self.having("queued")) >= QUEUE_LIMIT:
                with pytest.raises(QueueFull):
                    self.do(lambda row=row: self.store.submission.insert(row, QUEUE_LIMIT))  # type: ignore[misc]
            else:
                self.do(lambda row=row: self.store.submission.insert(row, QUEUE_LIMIT))  # type: ignore[misc]
                if not delay:
                    self.queue.put(job)
                self.model[job.id] = job

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.model.values()) + 3 * self.having("running")))
        answer, record = self.do(lambda: self.store.transitions.cancel(job.id, self.now, TTL))
        if job.status == "queued":
            assert answer == "cancelled"
            job.cancel_requested_at = self.now
            job.end(self.now, "cancelled")
            self.queue.left(job)
        elif job.status == "running":
            assert answer == "requested"
            job.cancel_requested_at = job.cancel_requested_at or self.now
        else:
            assert answer == "ended"
        assert record.document() == job.document()

    # What a run does

    @rule(workers=st.lists(st.tuples(st.sampled_from(WORKERS), st.integers(1, 3)), min_size=1, max_size=2))
    def claim(self, workers: list[tuple[str, int]]) -> None:
        """By one worker, or two at once."""
        names = [[f"token {next(self.numbers)}" for _ in range(limit)] for _, limit in workers]

        async def claims() -> list[list[JobRecord]]:
            return await asyncio.gather(
                *(
                    self.store.claims.claim(["task"], limit, worker, self.now, iter(tokens).__next__)
                    for (worker, limit), tokens in zip(workers, names, strict=True)
                )
            )

        answers = self.do(claims)
        for (worker, limit), tokens, claimed in zip(workers, names, answers, strict=True):
            wanted = self.queue.claim(self.now, limit)
            for job, token in zip(wanted, tokens, strict=False):
                job.status, job.token, job.worker, job.started_at = "running", token, worker, self.now
                job.attempt += 1
                self.given.append((job.id, token))
            assert [one.id for one in claimed] == [job.id for job in wanted]
            assert [one.document() for one in claimed] == [job.document() for job in wanted]

    @rule()
    def claim_none_of_a_task_that_it_lacks(self) -> None:
        due = self.queue.due(self.now)
        assert self.do(lambda: self.store.reading.is_due(["other", "task"], self.now)) == bool(
            due or self.queue.staged("ready")
        )
        assert not self.do(lambda: self.store.claims.claim(["other"], 3, WORKERS[0], self.now, lambda: "none"))
        self.queue.claim(self.now, 0)
        assert self.do(lambda: self.store.reading.is_due(["task"], self.now)) == bool(self.queue.staged("ready"))

    @precondition(lambda self: self.having("running"))
    @rule(data=st.data(), status=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]))
    def finish(self, data: st.DataObject, status: Status) -> None:
        job, token = self.run(data)
        failed, succeeded = status is Status.FAILED, status is Status.SUCCEEDED
        ended = self.do(
            lambda: self.store.transitions.finish(
                job.id,
                token,
                status,
                self.now,
                TTL,
                result="[1]" if succeeded else None,
                error=json.dumps(ERROR) if failed else None,
                failed_attempt=failed,
            )
        )
        job.failures += failed
        job.stop(self.now, status.value, ERROR if failed else None)
        job.end(self.now, status.value, **({"result": [1]} if succeeded else {"error": ERROR} if failed else {}))
        self.queue.left(job)
        assert ended is not None
        assert ended.document() == job.document()

    @precondition(lambda self: self.having("running"))
    @rule(data=st.data(), wait=st.integers(0, 3))
    def fail_and_retry(self, data: st.DataObject, wait: int) -> None:
        job, token = self.run(data)
        run_at = later(self.now, wait)
        after = self.do(lambda: self.store.transitions.retry(job.id, token, self.now, run_at, json.dumps(ERROR), TTL))
        job.failures += 1
        if job.cancel_requested_at:
            job.stop(self.now, "cancelled", None)
            job.end(self.now, "cancelled")
        else:
            job.run_at, job.stage, job.turn = run_at, "delayed", None
            job.again(self.now, "failed", ERROR, run_at)
        self.queue.left(job)
        assert after is not None
        assert after.document() == job.document()

    @precondition(lambda self: self.having("running"))
    @rule(data=st.data(), current=st.none() | st.integers(0, 9))
    def say(self, data: st.DataObject, current: int | None) -> None:
        job, token = self.run(data)
        progress = None if current is None else f'{{"current": {current}}}'
        name, said = ("log", {"text": "hello"}) if current is None else ("progress", {"current": current})
        assert self.do(
            lambda: self.store.transitions.record(job.id, token, self.now, name, said, MAX_EVENTS, progress=progress)
        )
        if current is not None:
            job.progress = {"current": current}
        if len(job.events) < MAX_EVENTS:
            job.events.append((name, said))

    @precondition(lambda self: self.having("running"))
    @rule(data=st.data(), ask=st.booleans())
    def give_back(self, data: st.DataObject, ask: bool) -> None:
        job, token = self.run(data)
        if ask and not job.cancel_requested_at:
            self.do(lambda: self.store.transitions.cancel(job.id, self.now, TTL))
            job.cancel_requested_at = self.now
        assert self.do(lambda: self.store.transitions.give_back(job.id, token, self.now, TTL))
        if job.cancel_requested_at:
            job.stop(self.now, "cancelled", None)
            job.end(self.now, "cancelled")
        else:
            job.status, job.token, job.worker = "queued", None, None
            job.attempt -= 1
            job.started_at = None
            job.stage = "ready"
        self.queue.left(job)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        """Whatever a run that is over, or another's, tries: nothing comes of it."""
        current = {(job.id, job.token) for job in self.model.values()}
        stale = [run for run in self.given if run not in current]
        again = [run for run in stale if run[0] in self.model and self.model[run[0]].token]
        others = [(job.id, token) for job in self.having("running") for _, token in self.given if job.token != token]
        if not stale + others:
            return
        job_id, token = data.draw(st.sampled_from(again or others or stale) | st.sampled_from(stale or others))

        async def all_of_it() -> list[Any]:
            store, now = self.store, self.now
            return [
                await store.transitions.finish(job_id, token, Status.SUCCEEDED, now, TTL, result="[2]", progress="{}"),
                await store.transitions.finish(job_id, token, Status.FAILED, now, TTL, error="{}", failed_attempt=True),
                await store.transitions.retry(job_id, token, now, now, "{}", TTL, progress="{}"),
                await store.transitions.record(job_id, token, now, "log", {}, 100, progress="{}"),
                await store.transitions.record(job_id, token, now, "log", {}, 0, progress="{}"),
                await store.transitions.give_back(job_id, token, now, TTL),
            ]

        assert self.do(all_of_it) == [None, None, None, False, False, None]

    # What happens to workers

    @precondition(lambda self: self.beats)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.beats) + [job.worker for job in self.having("running")] * 2))
        assert worker is not None
        crashed = json.dumps(CRASHED)
        mine = sorted((job for job in self.model.values() if job.worker == worker), key=lambda job: job.id)
        assert self.do(lambda: self.store.crashes.bury(worker, self.now, TTL, CRASH_LIMIT, crashed)) == len(mine)
        for job in mine:
            job.crashes += 1
            if job.cancel_requested_at:
                job.stop(self.now, "crashed", None)
                job.end(self.now, "cancelled")
            elif job.crashes >= CRASH_LIMIT:
                job.stop(self.now, "crashed", CRASHED)
                job.end(self.now, "failed", error=CRASHED)
            else:
                job.again(self.now, "crashed", None, self.now)
                job.stage = "ready"
            self.queue.left(job)
        assert self.do(lambda: self.store.crashes.bury(worker, self.now, TTL, CRASH_LIMIT, crashed)) is None
        assert not self.do(lambda: self.store.claims.claim(["task"], 3, worker, self.now, lambda: "of the dead"))
        assert not self.do(lambda: self.store.workers.beat(worker, self.now))
        self.register(worker)  # as itself, so that its old runs stay in play

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        assert self.do(lambda: self.store.workers.beat(worker, self.now))
        self.beats[worker] += 1

    @rule(worker=st.sampled_from(WORKERS))
    def dismiss(self, worker: str) -> None:
        self.do(lambda: self.store.workers.dismiss(worker))
        if not any(job.worker == worker for job in self.model.values()):
            assert not self.do(lambda: self.store.workers.beat(worker, self.now))
            self.register(worker)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    # What time does

    @rule(seconds=st.sampled_from([1, 2, 1, 2, 5, 5, 25, -2]))
    def pass_time(self, seconds: int) -> None:
        self.now = later(self.now, seconds)

    @precondition(lambda self: self.having("queued"))
    @rule(data=st.data(), late=st.booleans())
    def hasten(self, data: st.DataObject, late: bool) -> None:
        job = data.draw(st.sampled_from(self.having("queued")))
        self.do(lambda: self.store.transitions.hasten(job.id, later(job.run_at, 1) if late else job.run_at, self.now))
        if not late and job.stage == "delayed":  # one that is ready, when the clock was set back, needs no haste
            job.run_at = min(job.run_at, self.now)

    @precondition(lambda self: any(job.expires_at for job in self.model.values()))
    @rule()
    def expire(self) -> None:
        gone = {job.id for job in self.model.values() if job.expires_at and job.expires_at < self.now}
        assert self.do(lambda: self.store.retention.expire(self.now, TTL)) == len(gone)
        for job_id in gone:
            del self.model[job_id]
            self.expired.add(job_id)
            with pytest.raises(JobExpired):
                self.do(lambda job_id=job_id: self.store.transitions.cancel(job_id, self.now, TTL))  # type: ignore[misc]
        with pytest.raises(JobNotFound):
            self.do(lambda: self.store.reading.get("none", None))

    # What holds after each step

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        self.do(self.compare)

    async def compare(self) -> None:
        jobs = sorted(self.model.values(), key=lambda job: job.id, reverse=True)
        rows = await self.store.reading.page(1000, None)
        assert [row.document() for row in rows] == [job.document() for job in jobs]
        assert [(row.run_token, row.worker, row.failures, row.crashes, row.last_event) for row in rows] == [
            (job.token, job.worker, job.failures, job.crashes, len(job.events)) for job in jobs
        ]
        assert [(row.id, row.stage, row.turn) for row in rows] == [(job.id, job.stage, job.turn) for job in jobs]
        for slot, limit in SLOTS.items():
            inside = self.queue.staged("ready", "running", slot=slot)
            assert len(inside) <= limit
            assert len(inside) == limit or not self.queue.staged("held", slot=slot)
        events = await self.store.history.events_after((0, 0))
        assert {event.job_id for event in events} <= set(self.model)
        attempts = await self.database.client.execute_query_dict("SELECT DISTINCT job_id FROM job_attempts")
        assert {row["job_id"] for row in attempts} == {job.id for job in jobs if job.attempts}
        for job in jobs:
            mine = [event for event in events if event.job_id == job.id]
            assert [(event.number, event.name, event.data) for event in mine] == [
                (number, *event) for number, event in enumerate(job.events, 1)
            ]
            ends = [event.number for event in mine if Status.is_terminal_name(event.name)]
            assert ends == ([len(mine)] if job.status in ("succeeded", "failed", "cancelled") else [])
            if job.attempts:
                assert await self.store.reading.attempts(job.id) == job.attempts
        usage = await self.database.client.execute_query_dict("SELECT * FROM job_usage WHERE jobs > 0")
        assert {row["owner"]: (row["unfinished"], row["jobs"], row["bytes"]) for row in usage} == {
            owner or "": (
                sum(job.status in ("queued", "running") for job in jobs if job.owner == owner),
                sum(job.owner == owner for job in jobs),
                sum(row.bytes for row in rows if row.owner == owner),
            )
            for owner in {job.owner for job in jobs}
        }
        assert all(row.bytes >= len(row.args) + len(row.result or "") for row in rows)
        assert await self.store.workers.beats() == self.beats
        for worker in self.beats:
            assert {(run.job_id, run.token, run.cancelled) for run in await self.store.reading.runs(worker)} == {
                (job.id, job.token, bool(job.cancel_requested_at)) for job in jobs if job.worker == worker
            }


@pytest.mark.slow
def test_the_store_does_what_the_model_does(migrated_file: Path, tmp_path: Path) -> None:
    compare(migrated_file, tmp_path, 30, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_store_does_what_the_model_does_in_five_hundred_histories(migrated_file: Path, tmp_path: Path) -> None:
    compare(migrated_file, tmp_path, 500, derandomize=False)


def compare(migrated_file: Path, tmp_path: Path, histories: int, *, derandomize: bool) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    run_state_machine_as_test(
        lambda: Jobs(migrated_file, folder),  # type: ignore[arg-type]
        settings=settings(
            max_examples=histories,
            stateful_step_count=40,
            deadline=None,
            derandomize=derandomize,
            database=None,
            # A failure is told as it was met: shrinking one of so many steps takes minutes, and says little more.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
