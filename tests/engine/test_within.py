"""A unit at the end of an app's own transaction runs again if another one was in the way. The rest stays as it is."""

import pytest

from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import ATTEMPTS, Crossed, Unit
from quart_async_api.db.within import run_within
from quart_async_api.errors import DatabaseUnavailable

# As the server ends one of two transactions that wait for each other.
DEADLOCK = ("DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$", ())


@pytest.mark.parametrize("crossings", [2, ATTEMPTS])
async def test_a_unit_that_was_crossed_runs_again_alone(backend: str, crossings: int) -> None:
    crossed = 0

    def unit() -> Unit[int]:
        nonlocal crossed
        inserted = yield ("INSERT INTO schedule_ticks (task, tick) VALUES (?, ?)", ("unit", "a"))
        if crossed < crossings:
            crossed += 1
            if database.url.file is None:
                yield DEADLOCK
            raise Crossed("other transactions were in the way")
        return inserted.count

    database = Database(backend)
    await database.start()
    try:
        async with database.transaction() as client:
            await client.execute_query("INSERT INTO schedule_ticks (task, tick) VALUES ('own', 'a')")
            if crossings < ATTEMPTS:
                assert await run_within(database, unit) == 1
            else:
                with pytest.raises(DatabaseUnavailable, match="other transactions were in the way"):
                    await run_within(database, unit)
        found = {task for (task,) in await database.rows("SELECT task FROM schedule_ticks")}
        assert found == ({"own", "unit"} if crossings < ATTEMPTS else {"own"})
    finally:
        await database.stop()
