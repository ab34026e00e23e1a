"""What a process of the version before writes after `migrate`, which it does not know of, is run all the same, once."""

from quart_async_api.jobs.janitor import Janitor
from quart_async_api.jobs.states import Status

from .conftest import Make


async def test_jobs_that_an_older_process_left_after_migrate_are_never_claimed_or_run_twice(make: Make) -> None:
    service = await make(engine=False)
    accepted, given_back, ended, running = [await service.submit("double", number=number) for number in range(4)]
    # In order: what it inserts, gives back, ends and runs.
    for change in (
        f"stage = NULL, turn = NULL, bytes = 0 WHERE id = '{accepted.id}'",
        f"stage = 'running' WHERE id = '{given_back.id}'",
        f"status = 'succeeded', result = '2', finished_at = run_at, expires_at = '9' WHERE id = '{ended.id}'",
        f"status = 'running', run_token = 'x', worker = 'old', started_at = run_at WHERE id = '{running.id}'",
    ):
        await service.database.client.execute_query(f"UPDATE jobs SET {change}")  # noqa: S608
    await service.database.client.execute_query("UPDATE job_usage SET unfinished = 1, jobs = 1")
    await service.start_engine()
    assert (await service.run("double", number=9)).status is Status.SUCCEEDED
    assert (await service.store.reading.get(ended.id, None)).attempt == 0
    assert (await service.store.reading.get(running.id, None)).worker == "old"

    await Janitor(service.store, service.settings, clock=service.clock).clean()
    for job in (accepted, given_back):
        assert (await service.wait(job)).status is Status.SUCCEEDED
    assert await service.store.adoption.adopt() == 0
    [used] = await service.database.read("SELECT unfinished, jobs FROM job_usage")
    assert tuple(used.values()) == (1, 5)
    stages = await service.database.read("SELECT id, stage FROM jobs WHERE stage IS NOT NULL")
    assert [tuple(row.values()) for row in stages] == [(running.id, "running")]
