"""The benchmarks: a tiny run makes a page, a noisy round is thrown away, and a peer that cannot start is shown."""

import asyncio
import contextlib
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import comics, crowds, distributed, events, filling, http, queueing, queues, wire
from benchmarks.figures import KEPT, Part, read
from benchmarks.flames import picture, read_stacks
from benchmarks.goals import Goal, figure
from benchmarks.machine import Guard, Usage
from benchmarks.page import missed, page
from benchmarks.plots import plot
from benchmarks.rounds import NoFigure, alternate
from benchmarks.servers import CannotStart, Server, make_databases, started

ROOT = Path(__file__).parents[2]
BARE = Server(http.BARE_UVICORN, "", ("uvicorn", "bare_asgi:app", "--port", "PORT"))
ABSENT = Server("absent", "", ("no_such_server",))


@pytest.mark.process
def test_a_tiny_run_of_two_servers_makes_a_page_and_shows_a_peer_that_cannot_start(tmp_path: Path) -> None:
    servers = (http.QUICK[0], BARE, ABSENT)
    rows = http.CONSTANT, http.ADD
    http.measure(servers, http.Pace(0.1, 1, 0), rows, say=lambda _: None).write(tmp_path)
    part = read(tmp_path)["http"]
    assert list(part.rows[http.CONSTANT]) == [http.OURS, http.BARE_UVICORN]
    for row in rows:
        found = part.spread(row, http.OURS)
        assert found, row
        assert found.median > 0
        assert part.spread(row, http.OURS, "CPU s per 1,000")
    written = page({"http": part})
    assert f"| **{http.OURS}** |" in written
    assert "| absent | exit code 1: " in written
    assert "No module named no_such_server" in written
    assert http.BARE_UVICORN in plot(part)


def noisy_machine(*shares: float) -> Guard:
    """Whose other processes have these shares of it in turn, while a benchmark has none."""
    moments = [Usage(everyone=0, ours=0, passed=0)]
    for share in shares:
        moments += [Usage(moments[-1].everyone + share, 0, moments[-1].passed + 1)] * 2
    looks = iter(moments)
    return Guard(spare=2, look=lambda: next(looks))


def test_a_turn_on_a_noisy_machine_is_thrown_away() -> None:
    guard, outcomes = noisy_machine(0.4, 0.01), iter((1, 2))
    assert guard.quiet(lambda: next(outcomes)) == 2
    assert (guard.thrown_away, guard.kept_noisy) == (1, 0)


def test_the_quietest_turn_counts_when_there_is_no_repeat_to_spare() -> None:
    guard, outcomes = noisy_machine(0.4, 0.1, 0.2), iter((1, 2, 3))
    assert guard.quiet(lambda: next(outcomes)) == 2
    assert (guard.thrown_away, guard.kept_noisy, guard.spare) == (2, 1, 0)


def quiet_machine(spare: int) -> Guard:
    return Guard(spare, look=lambda: Usage(0, 0, 0))


def test_a_round_in_which_the_reference_departs_from_its_median_is_thrown_away() -> None:
    paces, guard, values = iter((100.0, 99.0, 60.0, 101.0)), quiet_machine(2), iter((1.0, 2.0, 3.0, 4.0))
    found = alternate({"ours": lambda: {"requests/s": next(values)}}, 3, guard, {}, lambda: next(paces))
    assert found == {"ours": {"requests/s": [1.0, 2.0, 4.0]}}
    assert guard.thrown_away == 1


def test_contenders_take_turns_and_one_that_fails_is_left_out_with_its_reason() -> None:
    order: list[str] = []

    def turn(name: str) -> dict[str, float]:
        order.append(name)
        if name == "b":
            raise NoFigure("it answered 500")
        return {"requests/s": 1.0}

    missing: dict[str, str] = {}
    found = alternate({name: lambda name=name: turn(name) for name in "abc"}, 2, quiet_machine(0), missing)  # type: ignore[misc]
    assert found.keys() == {"a", "c"}
    assert missing == {"b": "it answered 500"}
    assert order == ["a", "b", "c", "c", "a"]


def test_a_goal_is_met_missed_or_not_measured() -> None:
    part = Part("http", "", "", rows={"row": {"ours": {"ms": [4.0, 6.0, 5.0]}}})
    goal = Goal("name", "text", 5, figure("http", "row", "ours"), at_least=False, unit="ms")
    found = goal.take({"http": part})
    assert found
    assert goal.met(found)
    assert not Goal("name", "text", 4.9, goal.take, at_least=False).met(found)
    assert goal.take({}) is None


def test_a_row_that_a_peer_wins_is_named_and_one_of_the_limit_is_not() -> None:
    contenders = {"ours": {"requests/s": [1.0]}, "peer": {"requests/s": [2.0]}, "bare": {"requests/s": [9.0]}}
    part = Part("http", "", "", rows={"row": contenders}, limits=["bare"])
    assert list(missed({"http": part})) == ['[losses] "http, row"']


def test_the_results_that_are_kept_make_the_page_of_the_docs() -> None:
    written = (ROOT / "docs" / "reference" / "benchmarks.md").read_text("utf-8")
    assert page(read(KEPT), "../../benchmarks/results/") in written, "run `make docs`"


def test_a_flame_graph_has_the_functions_below_the_event_loop() -> None:
    stacks = "main (x.py:1);run (asyncio/runners.py:118);serve (quart_async_api/app.py:5);<read> (db.py:1) 3\nwork (t.py:1) 1\n"
    drawn = picture("GET /", read_stacks(stacks))
    assert "<title>serve (quart_async_api/app.py:5): 75.0%</title>" in drawn
    assert "<title>&lt;read&gt; (db.py:1): 75.0%</title>" in drawn
    assert "main" not in drawn


@pytest.mark.soak
@pytest.mark.process
def test_crowds_are_measured(tmp_path: Path) -> None:
    make_databases(tmp_path, users=1)
    server = replace(crowds.SERVERS[0], environ=crowds.SERVERS[0].environ | {"QAA_DELAY": "0.1"})
    with started(server, tmp_path) as there:
        waiting = asyncio.run(crowds.waiting(there, 20))
        idle = asyncio.run(crowds.idle(there, 20))
        watching = asyncio.run(crowds.watching(there, 20))
    assert waiting["seconds"] > 0.1
    assert idle.keys() == {"kB each", "tasks each"}
    assert watching["ms to the last"] > 0


@pytest.mark.soak
@pytest.mark.process
def test_comics_are_measured() -> None:
    part = comics.measure(1, (2,), say=lambda _: None)
    found = part.spread("2 comics", comics.OURS)
    assert found
    assert found.median > 0


@pytest.mark.soak
@pytest.mark.process
def test_many_rows_are_filled_in_as_the_service_would(tmp_path: Path) -> None:
    make_databases(tmp_path, users=1)
    file = tmp_path / "ours.db"
    filling.finished_jobs(file, 20)
    filling.queued_jobs(file, 10)
    filling.users(file, 3)
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT unfinished, jobs FROM job_usage").fetchall() == [(10, 30)]
        assert database.execute("SELECT COUNT(*) FROM users").fetchone() == (4,)


@pytest.mark.process
def test_make_bench_keep_says_what_to_run_first(tmp_path: Path) -> None:
    command = ["make", "-f", str(ROOT / "Makefile"), "bench-keep"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
    assert "run make bench" in outcome.stderr
    (tmp_path / "build" / "bench").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("http.json", "http.svg"):
        (tmp_path / "build" / "bench" / name).write_text("{}")
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "benchmarks" / "results" / "http.json").read_text() == "{}"


@pytest.mark.soak
@pytest.mark.process
def test_jobs_of_several_workers_are_measured() -> None:
    part = distributed.measure(http.Pace(0.05, 1, 0), lambda _: None, (1,), distributed.QUEUES[:1])
    assert part.missing == {}
    found = {name: row[distributed.OURS] for name, row in part.rows.items()}
    assert found["1 worker"]["jobs/s"][0] > 0
    assert found["1 worker"]["ms to start"][0] > 0
    units = found[distributed.UNITS]
    assert units["WAL bytes each"][0] > 500
    # A job that is submitted alone needs its own insert, claim and end, each with its commit.
    assert (
        found[distributed.UNITS_ALONE]["statements each"][0] > found[distributed.UNITS_ALONE]["round trips each"][0] > 5
    )


@pytest.mark.soak
@pytest.mark.process
def test_the_delay_of_progress_between_processes_is_measured() -> None:
    part = events.measure(1, events=3, say=lambda _: None)
    assert part.missing == {}
    for found in part.rows[events.ROW].values():
        assert 0 < found["ms, median"][0] <= found["ms, p95"][0]


def test_the_relay_counts_messages_that_come_in_pieces() -> None:
    start, query = b"\x00\x00\x00\x08user", b"Q\x00\x00\x00\x0aSELECT" + b"E\x00\x00\x00\x04"
    kinds = wire.kinds(is_client=True)
    next(kinds)
    asked = start + 2 * query
    assert b"".join(kinds.send(asked[place : place + 1]) for place in range(len(asked))) == b"QEQE"


def test_the_simulated_fleet_waits_as_theory_says() -> None:
    """Alone, a job waits for two transactions and half of a gap at least; past the room of the workers, it waits for others."""
    costs = queueing.Costs()
    alone = queueing.simulate(queueing.Fleet(workers=1), rate=1, jobs=50)
    least = 2 * (costs.fixed + costs.each + costs.latency) + queueing.GAP_SECONDS
    assert alone.median == pytest.approx(least)
    assert alone.busy < 0.01
    # Little's law: 100 places of 0.1 s each take 1,000 jobs a second. With twice as many, a job waits half of the time so far.
    small = queueing.Fleet(workers=1, running=100, seconds=0.1)
    enough, too_many = (queueing.simulate(small, rate, jobs=2000) for rate in (600, 2000))
    assert enough.p99 < 0.05
    assert too_many.median > 0.2
    # One core with work for more than it has time: the database is what is full.
    assert queueing.simulate(queueing.Fleet(workers=16, cores=1), rate=20_000, jobs=2000).busy > 0.6


@pytest.mark.process
def test_our_jobs_are_measured_and_a_queue_without_its_server_is_shown(tmp_path: Path) -> None:
    make_databases(tmp_path, users=1)
    filling.queued_jobs(tmp_path / "ours.db", 10)
    with queues.looping(queues.QUEUES[0], tmp_path / "ours.db", None) as ours:
        found = ours.turn(callers=2, seconds=0.05)
    assert found["jobs/s"] > 0
    assert found["CPU s per 1,000"] >= 0  # the kernel counts in hundredths
    with pytest.raises(CannotStart, match="it needs redis"), queues.looping(queues.QUEUES[1], tmp_path / "x.db", None):
        pass
