"""Units that are in flight together share a commit, and nothing else."""

import asyncio
from typing import Any

import pytest

from quart_async_api.db.group_commit import GroupCommit, Unit
from quart_async_api.errors import DatabaseUnavailable

from .conftest import PATIENCE, Make, Service, until


def _insert(key: str, *, fails: bool = False) -> Any:
    def unit() -> Unit[str]:
        yield ("INSERT INTO schedule_ticks (task, tick) VALUES (?, ?)", ("group", key))
        if fails:
            raise LookupError(key)
        return key

    return unit


async def _ticks(service: Service) -> list[str]:
    rows = await service.database.client.execute_query_dict("SELECT tick FROM schedule_ticks ORDER BY tick")
    return [row["tick"] for row in rows]


async def test_a_thousand_submissions_in_flight_take_a_small_fraction_of_a_thousand_commits(make: Make) -> None:
    service = await make(engine=False)
    before = service.commits.commits
    jobs = await asyncio.gather(*(service.submit("double", number=number) for number in range(1000)))
    assert service.commits.commits - before < 30
    rows = await service.database.client.execute_query_dict("SELECT COUNT(*) AS n FROM jobs")
    assert rows[0]["n"] == len({job.id for job in jobs}) == 1000


async def test_a_unit_that_fails_fails_alone(make: Make) -> None:
    service = await make(engine=False)
    units = [_insert(f"{number:02}", fails=number == 5) for number in range(10)]
    outcomes = await asyncio.gather(*map(service.commits.run, units), return_exceptions=True)
    assert isinstance(outcomes[5], LookupError)
    others = [f"{number:02}" for number in range(10) if number != 5]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == others
    assert await _ticks(service) == others


async def test_a_unit_that_breaks_a_constraint_fails_alone(make: Make) -> None:
    service = await make(engine=False)
    outcomes = await asyncio.gather(
        *(service.commits.run(_insert(key)) for key in ("a", "b", "a", "c")), return_exceptions=True
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False]
    assert await _ticks(service) == ["a", "b", "c"]


async def test_a_unit_whose_caller_was_cancelled_is_committed(make: Make) -> None:
    service = await make(engine=False)
    callers = [asyncio.create_task(service.commits.run(_insert(f"{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*callers, return_exceptions=True)
    )
    await service.commits.close()
    assert len(await _ticks(service)) == 5


async def test_the_items_of_all_who_wait_are_one_unit_and_a_bad_one_fails_alone(make: Make) -> None:
    service = await make(engine=False)
    units: list[list[str]] = []

    def unit(keys: list[str]) -> Unit[list[str]]:
        units.append(keys)
        for key in keys:
            yield ("INSERT INTO schedule_ticks (task, tick) VALUES (?, ?)", ("group", key))
        return [key.upper() for key in keys]

    settled: list[tuple[str, bool]] = []

    async def write(*keys: str) -> list[str | BaseException]:
        units.clear()
        return await asyncio.gather(
            *(
                service.commits.together(unit, key, lambda done, key=key: settled.append((key, done)))  # type: ignore[misc]
                for key in keys
            ),
            return_exceptions=True,
        )

    assert await write("a", "b") == ["A", "B"]
    assert units == [["a", "b"]]
    assert [isinstance(outcome, Exception) for outcome in await write("c", "a", "d")] == [False, True, False]
    assert await _ticks(service) == ["a", "b", "c", "d"]
    assert settled == [("a", True), ("b", True), ("c", True), ("a", False), ("d", True)]


async def test_what_was_asked_before_an_item_is_written_before_it(make: Make) -> None:
    service = await make(engine=False)

    def unit(keys: list[str]) -> Unit[list[list[str]]]:
        found = yield ("SELECT tick FROM schedule_ticks ORDER BY tick", ())
        return [[row["tick"] for row in found.rows] for _ in keys]

    first, _, second = await asyncio.gather(
        service.commits.together(unit, "x"), service.commits.run(_insert("a")), service.commits.together(unit, "y")
    )
    assert first == second == ["a"]


async def test_a_unit_sees_what_the_ones_before_did(make: Make) -> None:
    service = await make(engine=False)

    def count() -> Unit[int]:
        rows = (yield ("SELECT COUNT(*) AS n FROM schedule_ticks", ())).rows
        return int(rows[0]["n"])

    counted = [service.commits.run(make) for key in "abc" for make in (_insert(key), count)]
    assert (await asyncio.gather(*counted))[1::2] == [1, 2, 3]


async def test_a_reader_passes_over_no_event_whatever_process_writes(make: Make) -> None:
    writers = [await make(engine=False) for _ in range(3)]
    store = (await make(engine=False)).store
    live, ordered = store.history.new(), store.history.new_in_order()
    seen: dict[Any, list[tuple[int, int]]] = {live: [], ordered: []}

    def log(job_id: str, number: int) -> Any:
        def unit() -> Unit[None]:
            yield (
                "INSERT INTO job_events (job_id, number, name, data, created_at) VALUES (?, ?, 'log', '{}', '')",
                (job_id, number),
            )

        return unit

    async def write(commits: GroupCommit, writer: int) -> None:
        for number in range(40):
            await commits.run(log(str(writer), number))

    writing = asyncio.gather(*(write(service.commits, number) for number, service in enumerate(writers)))

    async def follow() -> bool:
        for reader, places in seen.items():
            places += [event.place for event in (await reader.read())[0]]
        return all(len(places) >= 120 for places in seen.values())

    await until(follow)
    await writing
    assert len(set(seen[live])) == len(seen[live]) == 120
    assert sorted(seen[live]) == seen[ordered]


async def test_a_lock_that_is_not_had_is_a_database_that_cannot_be_used_now(make: Make, backend: str) -> None:
    one, other = await make(engine=False), await make(engine=False)
    if backend.startswith("sqlite"):
        await other.database.client.execute_query("PRAGMA busy_timeout=50")
    async with one.database.transaction() as transaction:
        if backend.startswith("sqlite"):
            await transaction.execute_query("DELETE FROM schedule_ticks")
            with pytest.raises(DatabaseUnavailable):
                await other.commits.run(_insert("a"))
        else:
            await transaction.execute_query("LOCK TABLE schedule_ticks")

            def impatient() -> Unit[None]:
                yield ("SET LOCAL lock_timeout = 50", ())
                yield from _insert("a")()

            with pytest.raises(DatabaseUnavailable):
                await other.commits.run(impatient)
    await other.commits.run(_insert("a"))
    assert await _ticks(one) == ["a"]


@pytest.mark.parametrize("fault", ["wrong SQL", "lost connection"])
async def test_whatever_statement_of_a_batch_fails_each_unit_is_written_whole_or_not_at_all(
    make: Make, backend: str, fault: str
) -> None:
    if fault == "lost connection" and backend.startswith("sqlite"):
        pytest.skip("has no connections")
    service = await make(engine=False)
    broken = {
        "wrong SQL": "SELECT nonsense FROM nowhere",
        "lost connection": "SELECT pg_terminate_backend(pg_backend_pid())",
    }
    units, size = 3, 3
    for number in range(units * size):
        keys = [f"{number}-{unit}" for unit in range(units)]
        passed = 0

        def unit(key: str, number: int = number) -> Any:
            def statements() -> Unit[str]:
                nonlocal passed
                for part in range(size):
                    fails = (int(key[-1]), part) == divmod(number, size) and not (fault == "lost connection" and passed)
                    passed += fails
                    sql, values = ("INSERT INTO schedule_ticks (task, tick) VALUES (?, ?)", (f"{part}", key))
                    yield (broken[fault], ()) if fails else (sql, values)
                return key

            return statements

        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*(service.commits.run(unit(key)) for key in keys), return_exceptions=True)
        rows = await service.database.read("SELECT tick, COUNT(*) AS n FROM schedule_ticks GROUP BY tick")
        written = {row["tick"]: row["n"] for row in rows if row["tick"] in keys}
        assert written == {outcome: size for outcome in outcomes if isinstance(outcome, str)}
        failed = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        assert len(failed) == (1 if fault == "wrong SQL" else units)
        assert fault == "wrong SQL" or all(isinstance(outcome, DatabaseUnavailable) for outcome in failed)


async def test_a_batch_that_is_interrupted_lets_nobody_wait_for_ever(make: Make) -> None:
    service = await make(engine=False)

    def interrupted() -> Unit[None]:
        yield ("SELECT 1", ())
        raise asyncio.CancelledError

    outcomes = await asyncio.gather(*(service.commits.run(interrupted) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
    assert await service.commits.run(_insert("after")) == "after"


async def test_what_comes_while_the_connection_cannot_be_given_back_is_answered(make: Make) -> None:
    """As when the process stops, and its pool is gone."""
    service, late = await make(engine=False), []

    async def fail() -> None:
        late.append(asyncio.ensure_future(service.commits.run(_insert("late"))))
        await asyncio.sleep(0)
        raise ConnectionError

    service.commits._held.push_async_callback(fail)
    assert await service.commits.run(_insert("first")) == "first"
    await until(lambda: late != [])
    with pytest.raises(DatabaseUnavailable):
        async with asyncio.timeout(PATIENCE):
            await late[0]
    assert await service.commits.run(_insert("after")) == "after"
