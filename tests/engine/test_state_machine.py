"""The store of jobs against a model of it in plain Python, through whatever order of events hypothesis thinks of."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import GroupCommit
from quart_async_api.db.migration import upgrade
from quart_async_api.errors import QueueFull
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import JobRecord, Status, later
from quart_async_api.jobs.store import JobStore

T = TypeVar("T")

CRASH_LIMIT = 2
QUEUE_LIMIT = 5
NOW = "2026-01-01T00:00:00.000000Z"
_loop = asyncio.new_event_loop()
_template: Path


@dataclass
class Model:
    """What is to be known about a job."""

    status: Status = Status.QUEUED
    urgency: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    token: str | None = None
    worker: str | None = None
    asked: bool = False
    not_before: int = 0
    attempts: int = 0
    events: int = 0

    def end(self, status: Status) -> None:
        self.stop()
        self.status = status
        self.events += 1

    def stop(self) -> None:
        self.status, self.token, self.worker = Status.QUEUED, None, None


class Jobs(RuleBasedStateMachine):
    """Time is a count of seconds from NOW."""

    tokens = Bundle("tokens")
    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.file = shutil.copy(_template, self.folder / "jobs.db")
        self.model: dict[str, Model] = {}
        self.enlisted: set[str] = set()
        self.time = 0
        self.numbers = 0
        self.open()

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
        shutil.rmtree(self.folder)

    def do(self, call: Callable[[], Awaitable[T]]) -> T:
        async def bound() -> T:
            with self.database.bind():
                return await call()

        return _loop.run_until_complete(bound())

    @property
    def now(self) -> str:
        return later(NOW, self.time)

    def fresh(self, prefix: str) -> str:
        self.numbers += 1
        return f"{prefix} {self.numbers}"

    @initialize(target=workers)
    def first_worker(self) -> str:
        return self.registered()

    @rule(target=workers)
    def enlist(self) -> str:
        return self.registered()

    def registered(self) -> str:
        worker = self.fresh("worker")
        self.do(lambda: self.store.register(worker, self.now))
        self.enlisted.add(worker)
        return worker

    @rule(priority=st.sampled_from([-1, 0, 1]), delay=st.sampled_from([0, 0, 0, 3]))
    def submit(self, priority: int, delay: int) -> None:
        job = JobRecord(
            id=new_id(),
            task="task",
            status=Status.QUEUED,
            args="{}",
            urgency=-priority,
            max_attempts=3,
            timeout=None,
            created_at=self.now,
            run_at=later(self.now, delay),
        )
        queued = sum(one.status is Status.QUEUED for one in self.model.values())
        if queued >= QUEUE_LIMIT:
            with pytest.raises(QueueFull):
                self.do(lambda: self.store.insert(job, QUEUE_LIMIT))
        else:
            self.do(lambda: self.store.insert(job, QUEUE_LIMIT))
            self.model[job.id] = Model(urgency=-priority, not_before=self.time + delay if delay else 0)

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        self.time += seconds

    @rule(target=tokens, worker=workers)
    def claim(self, worker: str) -> str:
        token = self.fresh("token")
        if worker not in self.enlisted:
            assert not self.do(lambda: self.store.claim(["task"], 1, worker, self.now, lambda: token))
            self.do(lambda: self.store.register(worker, self.now))
            self.enlisted.add(worker)
        claimed = self.do(lambda: self.store.claim(["task"], 1, worker, self.now, lambda: token))
        due = sorted(
            (job.urgency, job_id)
            for job_id, job in self.model.items()
            if job.status is Status.QUEUED and job.not_before <= self.time
        )
        if not due:
            assert not claimed
            return token
        job = self.model[due[0][1]]
        assert [one.id for one in claimed] == [due[0][1]]
        job.status, job.token, job.worker = Status.RUNNING, token, worker
        job.attempt += 1
        return token

    def held(self, token: str) -> tuple[str, Model | None]:
        """The job that a token is for now; any job with none for a token that is no longer good."""
        for job_id, job in self.model.items():
            if job.token == token:
                return job_id, job
        runs = [job_id for job_id, job in self.model.items() if job.status is Status.RUNNING]
        return (runs or list(self.model) or ["none"])[0], None

    @rule(token=tokens, status=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]))
    def finish(self, token: str, status: Status) -> None:
        job_id, job = self.held(token)
        ended = self.do(
            lambda: self.store.finish(
                job_id, token, status, self.now, 60, result="1", failed_attempt=status is Status.FAILED
            )
        )
        assert (ended is None) == (job is None)
        if job is not None:
            job.failures += status is Status.FAILED
            job.attempts += 1
            job.end(status)

    @rule(token=tokens, wait=st.integers(0, 3))
    def fail_and_retry(self, token: str, wait: int) -> None:
        job_id, job = self.held(token)
        run_at = later(self.now, wait)
        again = self.do(lambda: self.store.retry(job_id, token, self.now, run_at, "{}", 60))
        assert (again is None) == (job is None)
        if job is not None:
            job.failures += 1
            job.attempts += 1
            if job.asked:
                job.end(Status.CANCELLED)
            else:
                job.stop()
                job.not_before = self.time + wait
                job.events += 1

    @rule(token=tokens)
    def say(self, token: str) -> None:
        job_id, job = self.held(token)
        assert self.do(lambda: self.store.record(job_id, token, self.now, "log", {}, 100)) == (job is not None)
        if job is not None:
            job.events += 1

    @rule(token=tokens)
    def give_back(self, token: str) -> None:
        job_id, job = self.held(token)
        given = self.do(lambda: self.store.give_back(job_id, token))
        assert given == (job is not None and not job.asked)
        if given and job is not None:
            job.stop()
            job.attempt -= 1

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.model:
            return
        job_id = data.draw(st.sampled_from(sorted(self.model)))
        job = self.model[job_id]
        answer, record = self.do(lambda: self.store.cancel(job_id, self.now, 60))
        assert record.id == job_id
        if job.status is Status.QUEUED:
            assert answer == "cancelled"
            job.asked = True
            job.end(Status.CANCELLED)
        elif job.status is Status.RUNNING:
            assert answer == "requested"
            job.asked = True
        else:
            assert answer == "ended"

    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        left = self.do(lambda: self.store.bury(worker, self.now, 60, CRASH_LIMIT, "{}"))
        mine = [job for job in self.model.values() if job.worker == worker]
        assert left == len(mine)
        for job in mine:
            job.crashes += 1
            job.attempts += 1
            if job.asked:
                job.end(Status.CANCELLED)
            elif job.crashes >= CRASH_LIMIT:
                job.end(Status.FAILED)
            else:
                job.stop()
                job.events += 1
        assert self.do(lambda: self.store.bury(worker, self.now, 60, CRASH_LIMIT, "{}")) == 0
        assert not self.do(lambda: self.store.beat(worker))
        self.do(lambda: self.store.register(worker, self.now))  # back as itself, so that its old runs stay in play
        self.enlisted.add(worker)

    @rule(worker=workers)
    def beat_and_dismiss(self, worker: str) -> None:
        assert self.do(lambda: self.store.beat(worker)) == (worker in self.enlisted)
        self.do(lambda: self.store.dismiss(worker))
        if not any(job.worker == worker for job in self.model.values()):
            self.enlisted.discard(worker)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        rows = {row.id: row for row in self.do(lambda: self.store.page(1000))}
        assert set(rows) == set(self.model)
        for job_id, job in self.model.items():
            row = rows[job_id]
            shown = (row.status, row.attempt, row.failures, row.crashes, row.run_token, row.worker)
            assert shown == (job.status, job.attempt, job.failures, job.crashes, job.token, job.worker)
            assert bool(row.cancel_requested_at) == job.asked
            assert bool(row.finished_at) == bool(row.expires_at) == row.status.is_terminal
            assert (row.result is not None) <= row.status.is_terminal
            assert row.last_event == job.events
        assert set(self.do(self.store.workers)) == self.enlisted
        for worker in self.enlisted:
            mine = {(job_id, job.token, job.asked) for job_id, job in self.model.items() if job.worker == worker}
            runs = self.do(lambda worker=worker: self.store.runs(worker))  # type: ignore[misc]
            assert {(run.job_id, run.token, run.cancelled) for run in runs} == mine

    @invariant()
    def history_is_numbered_without_gaps_and_ends_once(self) -> None:
        for job_id, job in self.model.items():
            events = self.do(lambda job_id=job_id: self.store.events(job_id, 0))  # type: ignore[misc]
            assert [event.number for event in events] == list(range(1, job.events + 1))
            ends = [event.name for event in events if Status.is_terminal_name(event.name)]
            assert ends == ([job.status.value] if job.status.is_terminal else [])
            attempts = self.do(lambda job_id=job_id: self.store.attempts(job_id))  # type: ignore[misc]
            assert len(attempts) == job.attempts
            assert len({attempt["number"] for attempt in attempts}) == job.attempts


@pytest.fixture(scope="module", autouse=True)
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _template
    _template = tmp_path_factory.mktemp("template") / "jobs.db"
    asyncio.run(upgrade(f"sqlite://{_template}"))


Jobs.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestJobs = Jobs.TestCase
