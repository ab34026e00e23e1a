"""Each rule of history.py fails on a history that was doctored so that it must, and on nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.history import RULES, Answer, Fault, History, breaches

HEALTHY, KILLED = 1, 2  # processes


def event(number: float, name: str, **data: object) -> dict[str, Any]:
    return {"job_id": "j1", "number": number, "name": name, "data": json.dumps(data)}


def note(what: str, run: str, attempt: int, pid: int, at: float, **more: object) -> dict[str, Any]:
    return {"event": what, "job": "j1", "attempt": attempt, "run": run, "pid": pid, "at": at, **more}


def ended(**changes: object) -> dict[str, Any]:
    """The document of the job, as it ended."""
    result = {"run": "r2", "attempt": 2, "tag": "k1"}
    return {"id": "j1", "status": "succeeded", "finished_at": "t", "attempt": 2, "result": result, **changes}


def sound() -> History:
    """A job whose first process was killed and which succeeded in the second; another that was cancelled."""
    return History(
        answers=[
            Answer("submit", 1.0, 1.1, 202, "j1", "k1"),
            Answer("submit", 1.2, 1.3, 202, "j1", "k1"),
            Answer("submit", 1.2, 1.3, 202, "j2", "k2"),
            Answer("cancel", 1.4, 1.5, 204, "j2"),
            Answer("read", 2.0, 2.1, 200, "j1", document={"status": "running"}),
            Answer("read", 9.0, 9.1, 200, "j1", document=ended()),
            Answer("read", 9.2, 9.3, 200, "j1", document=ended()),
        ],
        notes=[
            note("began", "r1", 1, KILLED, 2.0),
            note("began", "r2", 2, HEALTHY, 5.0),
            note("ended", "r2", 2, HEALTHY, 6.0, how="succeeded"),
        ],
        faults=[Fault("kill", KILLED, 4.0), Fault("ended", KILLED, 4.1)],
        jobs=[
            {"id": "j1", "status": "succeeded", "args": '{"tag": "k1"}', "attempt": 2, "max_attempts": 4, "failures": 0,
             "crashes": 1, "last_event": 4, "result": json.dumps(ended()["result"]), "error": None, "finished_at": "t"},
            {"id": "j2", "status": "cancelled", "args": '{"tag": "k2"}', "attempt": 0, "max_attempts": 4, "failures": 0,
             "crashes": 0, "last_event": 0, "result": None, "error": None, "finished_at": "t"},
        ],
        attempts=[
            {"job_id": "j1", "number": 1, "outcome": "crashed"},
            {"job_id": "j1", "number": 2, "outcome": "succeeded"},
        ],
        events=[
            event(1, "progress", message="1 r1"),
            event(2, "retry"),
            event(3, "progress", message="2 r2"),
            event(4, "succeeded"),
        ],
    )  # fmt: skip


def cancelled_event(history: History) -> None:
    history.jobs[1]["last_event"] = 1
    history.events.append({"job_id": "j2", "number": 1, "name": "cancelled", "data": "{}"})


Doctor = Callable[[History], object]
DOCTORED: tuple[tuple[str, str, Doctor], ...] = (
    ("accepted_jobs_are_there", "no row", lambda h: h.jobs.pop(1)),
    ("accepted_jobs_are_there", "404", lambda h: h.answers.append(Answer("read", 9.5, 9.6, 404, "j1"))),
    ("accepted_jobs_are_there", "410", lambda h: h.answers.append(Answer("read", 9.5, 9.6, 410, "j1"))),
    ("every_job_ends", "still running", lambda h: h.jobs[1].update(status="running")),
    ("every_job_ends", "still listed", lambda h: h.workers.append({"id": "w"})),
    ("an_end_never_changes", "another end", lambda h: h.answers.append(
        Answer("read", 9.5, 9.6, 200, "j1", document=ended(status="failed")))),
    ("an_end_never_changes", "alive again", lambda h: h.answers.append(
        Answer("read", 9.5, 9.6, 200, "j1", document={"status": "queued"}))),
    ("an_end_never_changes", "another row", lambda h: h.jobs[0].update(finished_at="later")),
    ("what_a_client_was_told_of_cancelling_is_so", "204", lambda h: h.jobs[1].update(status="succeeded")),
    ("what_a_client_was_told_of_cancelling_is_so", "nobody asked", lambda h: h.answers.pop(3)),
    ("attempts_do_not_overlap", "in two processes", lambda h: h.notes.append(note("began", "r3", 2, KILLED, 5.5))),
    ("attempts_do_not_overlap", "before it was killed", lambda h: h.notes.append(note("began", "r0", 1, 3, 4.0))),
    ("one_run_writes_at_a_time", "writes again", lambda h: h.events.insert(0, event(3.5, "log", text="1 r1"))),
    ("one_run_writes_at_a_time", "earlier attempt last", lambda h: h.notes[0].update(attempt=3)),
    ("one_run_writes_at_a_time", "result of another", lambda h: h.jobs[0].update(
        result='{"run": "r1", "attempt": 2, "tag": "k1"}')),
    ("a_success_has_run", "cut short", lambda h: h.notes[2].update(how="cancelled")),
    ("a_success_has_run", "never began", lambda h: h.notes.__delitem__(slice(1, 3))),
    ("nothing_runs_after_its_end", "again", lambda h: h.notes.append(note("began", "r3", 3, KILLED, 9.5))),
    ("nothing_runs_after_its_end", "late, untouched", lambda h: h.notes.append(note("began", "r3", 1, HEALTHY, 9.5))),
    ("attempts_are_accounted_for", "one is missing", lambda h: h.attempts.pop(0)),
    ("attempts_are_accounted_for", "a crash spent a retry", lambda h: h.jobs[0].update(failures=1)),
    ("attempts_are_accounted_for", "a crash not counted", lambda h: h.jobs[0].update(crashes=0)),
    ("attempts_are_accounted_for", "failed early", lambda h: h.jobs[1].update(status="failed")),
    ("a_crash_is_that_of_its_process", "innocent", lambda h: h.faults.pop(0)),
    ("a_key_starts_one_job", "two ids", lambda h: h.answers.append(Answer("submit", 3.0, 3.1, 202, "j2", "k1"))),
    ("a_key_starts_one_job", "two rows", lambda h: h.jobs[1].update(args='{"tag": "k1"}')),
    ("events_have_no_gaps", "a gap", lambda h: h.events.pop(1)),
    ("events_have_no_gaps", "two ends", lambda h: h.events[1].update(name="failed")),
    ("events_have_no_gaps", "after the end", lambda h: (h.events[2].update(number=4), h.events[3].update(number=3))),
)  # fmt: skip


@pytest.fixture
def history() -> History:
    made = sound()
    cancelled_event(made)
    return made


def test_a_stop_that_could_not_write_beside_a_paused_process_is_no_breach(history: History) -> None:
    stop = [Fault("terminate", KILLED, 3.5), Fault("ended", KILLED, 4.1)]
    history.faults[:] = stop
    assert [breach.partition(":")[0] for breach in breaches(history)] == ["a_crash_is_that_of_its_process"]
    history.faults[:] = [Fault("pause", 3, 3.0), Fault("resume", 3, 3.4), *stop]
    assert breaches(history) != []
    history.faults[:] = [Fault("pause", 3, 3.9), *stop, Fault("resume", 3, 4.5)]
    assert breaches(history) == []


def test_a_stop_that_needed_all_its_time_is_no_breach(history: History) -> None:
    for seconds, are_kept in ((0.9, False), (1.1, True)):
        history.faults[:] = [Fault("terminate", KILLED, 3.0), Fault("ended", KILLED, 3.0 + seconds)]
        assert (breaches(history) == []) is are_kept


def test_a_process_whose_heartbeat_was_missing_for_longer_than_its_lease_may_be_taken_for_dead(
    history: History,
) -> None:
    history.faults.clear()
    for second, are_kept in ((1, False), (3, True)):
        history.beats[KILLED] = [f"2026-01-01T00:00:0{beat}.100000Z" for beat in (0, second)]
        assert (breaches(history) == []) is are_kept


def test_a_sound_history_breaks_no_rule(history: History) -> None:
    assert breaches(history) == []


@pytest.mark.parametrize(
    ("rule", "doctor"),
    [(rule, doctor) for rule, _, doctor in DOCTORED],
    ids=[f"{rule}-{how}" for rule, how, _ in DOCTORED],
)
def test_a_doctored_history_breaks_the_rule(history: History, rule: str, doctor: Doctor) -> None:
    doctor(history)
    assert rule in {breach.partition(":")[0] for breach in breaches(history)}


def test_each_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in DOCTORED} == {rule.__name__ for rule in RULES}
