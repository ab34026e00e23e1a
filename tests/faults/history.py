"""What clients were answered, what tasks noted, what was done to the processes, and the rows in the end: and its rules.

The rules are those of section 3 of the contract. Each takes a history and yields one sentence for each breach. All times are of
one monotonic clock, in seconds.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from quart_async_api.jobs.runs import FAREWELL_SECONDS
from quart_async_api.moments import moment

LEASE_SECONDS = 2.0
DRAIN_SECONDS = 0.5
TERMINAL = ("succeeded", "failed", "cancelled")
AT_REST = ("status", "finished_at", "attempt", "result", "error")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got for a request that it sent at `sent` and had the answer to at `heard`."""

    what: str  # submit, read or cancel
    sent: float
    heard: float
    status: int
    job: str | None = None
    key: str | None = None
    document: Row | None = None

    @property
    def end(self) -> Row | None:
        """The document of a job that has ended."""
        return self.document if self.document is not None and self.document.get("status") in TERMINAL else None


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` was done to a process: kill, pause, resume or terminate; or it ended."""

    what: str
    pid: int
    at: float


@dataclass(slots=True)
class Run:
    """A task's own notes of one run of one attempt."""

    job: str
    attempt: int
    run: str
    pid: int
    began: float
    ended: float | None = None
    how: str | None = None


@dataclass(slots=True)
class History:
    """The rows hold text as the database does: arguments, results and events are JSON."""

    answers: list[Answer] = field(default_factory=list)
    notes: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    jobs: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    workers: list[Row] = field(default_factory=list)
    beats: dict[int, list[str]] = field(
        default_factory=dict
    )  # the heartbeats of each process that were seen, as timestamps
    stalls: list[Row] = field(
        default_factory=list
    )  # each time that a process got no time from the machine; for the reader
    logs: dict[int, str] = field(default_factory=dict)  # of the processes; for the reader
    clock: float = 0.0  # what the log's clock says when that of the rest is 0

    @property
    def rows(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.jobs}

    @property
    def runs(self) -> list[Run]:
        found: dict[str, Run] = {}
        for one in self.notes:
            if one["event"] == "began":
                found[one["run"]] = Run(one["job"], one["attempt"], one["run"], one["pid"], one["at"])
            else:
                found[one["run"]].ended, found[one["run"]].how = one["at"], one["how"]
        return list(found.values())

    def of(self, rows: str) -> dict[str, list[Row]]:
        """The attempts or the events of each job, in order."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in sorted(getattr(self, rows), key=lambda row: row["number"]):
            found[row["job_id"]].append(row)
        return found

    def ends(self) -> Iterator[tuple[str, Answer, Row]]:
        """Each answer that showed a job at its end, in the order in which they were heard."""
        for answer in sorted(self.answers, key=lambda answer: answer.heard):
            if answer.job is not None and (end := answer.end) is not None:
                yield answer.job, answer, end

    def harmed(self, pid: int) -> bool:
        return any(fault.pid == pid and fault.what in ("kill", "pause") for fault in self.faults)

    def silent(self, pid: int) -> bool:
        """Whether the heartbeat of a process was missing for longer than its lease: the machine may have given it no time."""
        beats = [moment(at) for at in sorted(self.beats.get(pid, ()))]
        return any((after - before).total_seconds() > LEASE_SECONDS for before, after in itertools.pairwise(beats))

    def ran_out_of_time(self, pid: int) -> bool:
        """Whether a process needed all the time that it had to stop: it may not have been able to write."""
        at = {fault.what: fault.at for fault in self.faults if fault.pid == pid}
        return at.get("ended", 0) - at.get("terminate", float("inf")) >= DRAIN_SECONDS + 2 * FAREWELL_SECONDS

    def stopped_beside_a_paused_one(self, pid: int) -> bool:
        """Whether another process was paused while this one stopped: it may have held the lock of the database all the time."""
        stops = [fault.at for fault in self.faults if fault.pid == pid and fault.what == "terminate"]
        ends = [fault.at for fault in self.faults if fault.pid == pid and fault.what == "ended"]
        if not stops or not ends:
            return False
        paused: set[int] = set()
        for fault in sorted(self.faults, key=lambda fault: fault.at):
            if fault.at > ends[0]:
                break
            if fault.what == "pause":
                paused.add(fault.pid)
            elif fault.what in ("resume", "kill"):
                if fault.at >= stops[0] and fault.pid in paused:
                    return True
                paused.discard(fault.pid)
        return bool(paused)


Rule = Callable[[History], Iterator[str]]


def accepted_jobs_are_there(history: History) -> Iterator[str]:
    """Promise 1: a 202 is kept. A job that is known once is known always."""
    rows, since = history.rows, {}
    for answer in sorted(history.answers, key=lambda answer: answer.heard):
        if answer.job is None:
            continue
        if answer.status < 400 and answer.job not in since:
            since[answer.job] = answer.heard
            if answer.job not in rows:
                yield f"job {answer.job} was accepted, and has no row"
        if answer.status in (404, 410) and answer.sent > since.get(answer.job, float("inf")):
            yield f"job {answer.job} was accepted, and then answered with {answer.status}"


def every_job_ends(history: History) -> Iterator[str]:
    """Promise 2: a job that lost its process runs again, and comes to an end."""
    for row in history.jobs:
        if row["status"] not in TERMINAL:
            yield f"job {row['id']} is still {row['status']}"
    for worker in history.workers:
        yield f"worker {worker['id']} has left and is still listed"


def an_end_never_changes(history: History) -> Iterator[str]:
    """Promise 2: one terminal state, the same to everybody, and the same in the row."""
    first: dict[str, tuple[float, Row]] = {}
    for job, answer, end in history.ends():
        shown = {name: end.get(name) for name in AT_REST}
        _, seen = first.setdefault(job, (answer.heard, shown))
        if shown != seen:
            yield f"job {job} had ended as {seen}, and then as {shown}"
    for answer in history.answers:
        going_on = answer.document is not None and answer.end is None
        if going_on and answer.job in first and answer.sent > first[answer.job][0]:
            yield f"job {answer.job} had ended, and then was shown as if it had not"
    rows = history.rows
    for job, (_, seen) in first.items():
        if job in rows and any(seen[name] != _stored(rows[job], name) for name in AT_REST):
            yield f"job {job} had ended as {seen}, and its row is {rows[job]}"


def _stored(row: Row, name: str) -> Any:
    return json.loads(row[name]) if name in ("result", "error") and row[name] is not None else row[name]


def what_a_client_was_told_of_cancelling_is_so(history: History) -> Iterator[str]:
    """204 means cancelled; nothing is cancelled that nobody wanted cancelled."""
    rows = history.rows
    for answer in history.answers:
        if (
            answer.what == "cancel"
            and answer.status == 204
            and rows.get(answer.job or "", {}).get("status") != "cancelled"
        ):
            yield f"job {answer.job} was cancelled by a 204, and is not cancelled"
    asked = {answer.job for answer in history.answers if answer.what == "cancel"}
    for row in history.jobs:
        if row["status"] == "cancelled" and row["id"] not in asked:
            yield f"job {row['id']} is cancelled, and nobody asked for it"


def attempts_do_not_overlap(history: History) -> Iterator[str]:
    """Promise 3: no two processes run the same attempt at the same time."""
    gone = {fault.pid: fault.at for fault in history.faults if fault.what == "ended"}
    together: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in history.runs:
        together[run.job, run.attempt].append(run)
    for (job, attempt), runs in together.items():
        runs.sort(key=lambda run: run.began)
        for before, after in itertools.pairwise(runs):
            until = before.ended if before.ended is not None else gone.get(before.pid, float("inf"))
            if after.began < until:
                yield f"attempt {attempt} of job {job} ran in {before.pid} and in {after.pid} at the same time"


def one_run_writes_at_a_time(history: History) -> Iterator[str]:
    """Promise 3: a run that lost its lease cannot write. No run writes once a later one has; the last one has the end."""
    began = {run.run: run for run in history.runs}
    rows = history.rows
    for job, events in history.of("events").items():
        writers: list[str] = []
        for event in events:
            if (run := _writer(event)) is not None and run not in writers[-1:]:
                writers.append(run)
        if len(writers) != len(set(writers)):
            yield f"job {job} was written by a run after another had written: {writers}"
        numbers = [began[run].attempt for run in writers if run in began]
        if numbers != sorted(numbers):
            yield f"job {job} was written by an earlier attempt after a later one: {numbers}"
        end = _stored(rows[job], "result") if job in rows else None
        if end and (end["attempt"] != rows[job]["attempt"] or (writers and end["run"] != writers[-1])):
            yield f"job {job} has the result of attempt {end['attempt']} {end['run']}; the last to write was {writers[-1:]}"


def _writer(event: Row) -> str | None:
    data = json.loads(event["data"])
    text = {"progress": data.get("message"), "log": data.get("text")}.get(event["name"])
    return str(text).split()[1] if text else None


def a_success_has_run(history: History) -> Iterator[str]:
    """Promise 2: at least once, to its end, with this result."""
    ran = {run.run: run for run in history.runs if run.how == "succeeded"}
    for row in history.jobs:
        if row["status"] == "succeeded":
            run = ran.get(str((_stored(row, "result") or {}).get("run")))
            if run is None or (run.job, run.attempt) != (row["id"], row["attempt"]):
                yield f"job {row['id']} succeeded in attempt {row['attempt']}, and no such run came to its end"


def nothing_runs_after_its_end(history: History) -> Iterator[str]:
    """Promise 2. A process that was paused before it began may begin an earlier attempt late: it cannot know, or write."""
    ended: dict[str, float] = {}
    for job, answer, _ in history.ends():
        ended.setdefault(job, answer.heard)
    rows = history.rows
    for run in history.runs:
        late = run.job in rows and run.began > ended.get(run.job, float("inf"))
        if late and (run.attempt >= rows[run.job]["attempt"] or not history.harmed(run.pid)):
            yield f"attempt {run.attempt} of job {run.job} began after the job had ended"


def attempts_are_accounted_for(history: History) -> Iterator[str]:
    """Promises 2 and 6: one row for each attempt; a crash spends no retry; failures and crashes are what the attempts say."""
    attempts = history.of("attempts")
    for row in history.jobs:
        outcomes = [attempt["outcome"] for attempt in attempts[row["id"]]]
        numbers = [attempt["number"] for attempt in attempts[row["id"]]]
        if row["status"] in TERMINAL and numbers != list(range(1, row["attempt"] + 1)):
            yield f"job {row['id']} had {row['attempt']} attempts, of which these are kept: {numbers}"
        count = Counter(outcomes)
        if (
            row["crashes"] != count["crashed"]
            or not count["failed"] <= row["failures"] <= count["failed"] + count["cancelled"]
        ):
            yield f"job {row['id']} has {row['failures']} failures and {row['crashes']} crashes; its attempts: {outcomes}"
        if row["status"] == "failed" and row["failures"] < row["max_attempts"]:
            yield f"job {row['id']} failed after {row['failures']} of {row['max_attempts']} attempts"
        if row["failures"] > row["max_attempts"] or (row["status"] == "succeeded" and "succeeded" not in outcomes[-1:]):
            yield f"job {row['id']} is {row['status']} after {outcomes}"


def a_crash_is_that_of_its_process(history: History) -> Iterator[str]:
    """A crash is charged only where the process of the attempt was killed, paused or silent, or could not write its end."""
    ran = {(run.job, run.attempt): run.pid for run in sorted(history.runs, key=lambda run: run.began)}
    for attempt in history.attempts:
        pid = ran.get((attempt["job_id"], attempt["number"]))
        if attempt["outcome"] != "crashed" or pid is None:
            continue
        reasons = (history.harmed, history.silent, history.ran_out_of_time, history.stopped_beside_a_paused_one)
        if not any(reason(pid) for reason in reasons):
            yield f"attempt {attempt['number']} of job {attempt['job_id']} counts as crashed; process {pid} was not touched"


def a_key_starts_one_job(history: History) -> Iterator[str]:
    """Promise 5: the same Idempotency-Key, the same job."""
    told: dict[str, set[str]] = defaultdict(set)
    for answer in history.answers:
        if answer.what == "submit" and answer.key is not None and answer.job is not None:
            told[answer.key].add(answer.job)
    stored = Counter(json.loads(row["args"])["tag"] for row in history.jobs)
    for key, jobs in told.items():
        if len(jobs) > 1:
            yield f"key {key} was answered with several jobs: {sorted(jobs)}"
    for key, count in stored.items():
        if count > 1:
            yield f"key {key} started {count} jobs"


def events_have_no_gaps(history: History) -> Iterator[str]:
    """The numbers of a job's events are 1, 2, 3…, its end is the last of them, and there is one end."""
    events = history.of("events")
    for row in history.jobs:
        numbers = [event["number"] for event in events[row["id"]]]
        if numbers != list(range(1, row["last_event"] + 1)):
            yield f"job {row['id']} has {row['last_event']} events, of which these are kept: {numbers}"
        ends = [event["name"] for event in events[row["id"]] if event["name"] in TERMINAL]
        if row["status"] in TERMINAL and (ends != [row["status"]] or events[row["id"]][-1]["name"] != row["status"]):
            yield f"job {row['id']} is {row['status']}; its events end with {ends}"


RULES: tuple[Rule, ...] = (
    accepted_jobs_are_there,
    every_job_ends,
    an_end_never_changes,
    what_a_client_was_told_of_cancelling_is_so,
    attempts_do_not_overlap,
    one_run_writes_at_a_time,
    a_success_has_run,
    nothing_runs_after_its_end,
    attempts_are_accounted_for,
    a_crash_is_that_of_its_process,
    a_key_starts_one_job,
    events_have_no_gaps,
)


def breaches(history: History) -> list[str]:
    return [f"{rule.__name__}: {breach}" for rule in RULES for breach in rule(history)]
