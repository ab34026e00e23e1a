"""The fixture qaa_service: jobs by hand, inline and live, on a clock that the test moves."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta, timezone
from pathlib import Path

import httpx
import psycopg
import pytest

from quart_async_api import App, Scope, Settings, submit, transaction
from quart_async_api.client import InvalidSignature, NotFound, Refused, Status
from quart_async_api.errors import SettingsError
from quart_async_api.testing import ServiceUnderTest, run_service
from quart_async_api.testing.databases import Migrate, Templates
from tests.postgresql import PostgreSQL, of_psycopg
from tests.shop.models import Order

from .shop import Courier, make_app, pack, ship


@pytest.fixture
def qaa_make_app() -> Callable[[Settings], App]:
    return make_app


async def test_a_job_runs_when_the_test_says_so(qaa_service: ServiceUnderTest) -> None:
    response = await qaa_service.client.post("/jobs", json={"task": "pack", "args": {"order": 7}})
    assert response.status_code == 202
    job = qaa_service.assert_enqueued(pack, order=7, gift=False)
    assert (await qaa_service.api.get(job)).status is Status.QUEUED
    [ran] = await qaa_service.drain()
    assert (ran.id, ran.status, ran.result) == (job.id, Status.SUCCEEDED, "parcel 7")
    assert ran.progress is not None
    assert ran.progress.message == "wrapped"
    assert await qaa_service.drain() == []


async def test_what_was_enqueued_is_found_by_its_task_and_some_of_its_arguments(qaa_service: ServiceUnderTest) -> None:
    with pytest.raises(AssertionError, match="no job pack\\(order=1\\) was enqueued; there are none"):
        qaa_service.assert_enqueued("pack", order=1)
    for order in (1, 2):
        await qaa_service.api.submit("pack", {"order": order})
    await qaa_service.drain()
    assert qaa_service.assert_enqueued("pack").args == {"order": 2, "gift": False}
    qaa_service.refute_enqueued("pack", order=3)
    qaa_service.refute_enqueued(ship)
    with pytest.raises(AssertionError, match="there are pack\\(order=1, gift=False\\), pack\\(order=2, gift=False\\)"):
        qaa_service.assert_enqueued("pack", order=2, gift=True)
    with pytest.raises(AssertionError, match="a job pack\\(order=2\\) was enqueued"):
        qaa_service.refute_enqueued("pack", order=2)
    # A misspelt name would make any refutation hold.
    with pytest.raises(TypeError, match="the task pack has no argument 'ordre'"):
        qaa_service.refute_enqueued("pack", ordre=2)
    with pytest.raises(LookupError, match="no task is named 'peck'; there are jobs-bulk, pack, ship, take-stock"):
        qaa_service.refute_enqueued("peck")


async def test_a_retry_is_due_when_the_clock_is_moved_to_it(qaa_service: ServiceUnderTest) -> None:
    qaa_service.app.resources[Courier].failures = 1  # type: ignore[attr-defined]
    await qaa_service.api.submit("ship", {"parcel": "parcel 7"})
    [failed] = await qaa_service.drain()
    assert (failed.status, failed.attempt) == (Status.QUEUED, 1)
    assert await qaa_service.drain() == []
    await qaa_service.advance(minutes=1)
    [shipped] = await qaa_service.drain()
    assert (shipped.status, shipped.result) == (Status.SUCCEEDED, 2)


async def test_the_clock_stands_still_until_it_is_moved(qaa_service: ServiceUnderTest) -> None:
    began = qaa_service.now
    job = await qaa_service.api.submit("pack", {"order": 1}, delay=0.01)
    assert job.run_at == began + timedelta(seconds=0.01)
    assert await qaa_service.drain() == []
    await qaa_service.advance_to(job.run_at)
    assert [ran.id for ran in await qaa_service.drain()] == [job.id]
    with pytest.raises(ValueError, match="goes forward only"):
        await qaa_service.advance_to(began)
    with pytest.raises(ValueError, match="has no time zone: write it as"):
        await qaa_service.advance_to(began.replace(tzinfo=None))


async def test_a_test_uses_the_tables_of_the_app(qaa_service: ServiceUnderTest) -> None:
    order = await Order.create(customer="ada")
    await qaa_service.api.submit("pack", {"order": order.id})
    await qaa_service.drain()
    await order.refresh_from_db()
    assert order.paid


async def test_a_job_of_a_transaction_is_enqueued_with_its_commit(qaa_service: ServiceUnderTest) -> None:
    with suppress(ZeroDivisionError):
        async with transaction() as lost:
            await submit(pack, {"order": 1}, in_transaction=lost)
            raise ZeroDivisionError
    qaa_service.refute_enqueued(pack)
    async with transaction() as kept:
        order = await Order.create(customer="ada")
        await submit(pack, {"order": order.id}, in_transaction=kept)
        qaa_service.refute_enqueued(pack)
    qaa_service.assert_enqueued(pack, order=order.id)
    assert [job.result for job in await qaa_service.drain()] == [f"parcel {order.id}"]


async def test_a_schedule_fires_at_each_of_its_times_on_the_way(qaa_service: ServiceUnderTest) -> None:
    qaa_service.refute_enqueued("take-stock")
    midnight = (qaa_service.now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    await qaa_service.advance_to(midnight)
    before = len(qaa_service.enqueued)
    half_past_two_there = (midnight + timedelta(hours=1.5)).astimezone(timezone(timedelta(hours=1)))
    await qaa_service.advance_to(half_past_two_there)
    await qaa_service.advance(days=3)
    assert [(job.task, job.created_at.hour, job.created_at.minute) for job in qaa_service.enqueued[before:]] == [
        ("take-stock", 2, 0)
    ] * 3
    assert len(await qaa_service.drain()) == before + 3


async def test_a_paused_task_waits_for_the_next_drain_after_its_pause(qaa_service: ServiceUnderTest) -> None:
    await qaa_service.api.submit("pack", {"order": 1})
    for task in ("pack", "take-stock"):
        await qaa_service.api.pause(task)
    await qaa_service.advance(days=30)
    assert await qaa_service.drain() == []
    qaa_service.refute_enqueued("take-stock")
    await qaa_service.api.resume("pack")
    assert [job.task for job in await qaa_service.drain()] == ["pack"]


async def test_a_result_expires_by_the_clock(qaa_service: ServiceUnderTest) -> None:
    job = await qaa_service.api.submit("pack", {"order": 1})
    await qaa_service.drain()
    await qaa_service.advance(days=6)
    assert (await qaa_service.api.get(job)).result == "parcel 1"
    await qaa_service.advance(days=2)
    with pytest.raises(Refused) as raised:
        await qaa_service.api.get(job)
    assert raised.value.problem.status == 410


async def test_a_key_and_its_scopes_hold_for_the_clients_that_have_it(qaa_service: ServiceUnderTest) -> None:
    token = await qaa_service.new_key(Scope.READ)
    reader, writer = qaa_service.connect(token), qaa_service.connect(await qaa_service.new_key())
    job = await writer.submit("pack", {"order": 1})
    with pytest.raises(NotFound):
        await reader.get(job)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await qaa_service.client.post("/jobs", json={"task": "pack"}, headers=headers)).status_code == 403
    assert (await qaa_service.client.get("/tasks")).status_code == 401


@pytest.mark.qaa_jobs("inline")
async def test_an_inline_job_has_ended_when_the_call_returns(qaa_service: ServiceUnderTest) -> None:
    response = await qaa_service.client.get("/parcels/7", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    result = await qaa_service.client.get(response.headers["Location"] + "/result")
    assert await result.get_json() == "parcel 7"
    waited = await qaa_service.client.get("/parcels/8", headers={"Prefer": "respond-async, wait=30"})
    assert await waited.get_json() == "parcel 8"
    qaa_service.app.resources[Courier].failures = 2  # type: ignore[attr-defined]
    job = await qaa_service.api.submit("ship", {"parcel": "parcel 7"})
    assert (await qaa_service.api.get(job)).attempt == 1
    await qaa_service.advance(minutes=2)
    assert await qaa_service.api.result(job) == 3
    assert [event.name async for event in qaa_service.api.watch(job)][-1] == "succeeded"


@pytest.mark.qaa_jobs(how="live")
async def test_a_live_job_runs_as_in_production(qaa_service: ServiceUnderTest) -> None:
    job = await qaa_service.api.submit("pack", {"order": 7})
    assert await qaa_service.api.result(job) == "parcel 7"
    late = await qaa_service.api.submit("pack", {"order": 8}, delay=timedelta(days=1))
    await qaa_service.advance(days=1)
    assert (await qaa_service.api.get(late)).result == "parcel 8"
    assert "take-stock" in [job.task for job in qaa_service.enqueued]


async def test_an_inbox_gets_each_try_of_a_callback_with_its_signature_verified(qaa_service: ServiceUnderTest) -> None:
    inbox = await qaa_service.open_inbox()
    inbox.answer(500)
    await qaa_service.api.submit("pack", {"order": 7}, callback_url=inbox.url)
    await qaa_service.drain()
    first = await inbox.next()
    assert (first.type, first.job.result, first.answer) == ("job.succeeded", "parcel 7", 500)
    await qaa_service.advance(seconds=6)
    second = await inbox.next()
    assert (second.id, second.answer) == (first.id, 204)
    assert inbox.received == [first, second]


async def test_an_inbox_refuses_what_the_service_has_not_signed(qaa_service: ServiceUnderTest) -> None:
    inbox = await qaa_service.open_inbox()
    await qaa_service.api.submit("pack", {"order": 7}, callback_url=inbox.url)
    await qaa_service.drain()
    received = await inbox.next()
    async with httpx.AsyncClient() as http:
        for headers, body in (({}, b"{}"), (received.headers, b'{"type": "job.failed", "data": {}}')):
            signed = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            assert (await http.post(inbox.url, headers=signed, content=body)).status_code == 400
            with pytest.raises(InvalidSignature):
                await inbox.next()
    assert inbox.received == [received]


async def test_an_app_with_a_database_of_its_own_and_an_unknown_mode_are_refused() -> None:
    def stubborn(settings: Settings) -> App:
        return make_app(settings.model_copy(update={"database_url": "sqlite://mine.db"}))

    with pytest.raises(SettingsError, match="another database"):
        async with run_service(stubborn):
            raise AssertionError
    with pytest.raises(SettingsError, match=r"make_app returned NoneType: return what create_app\("):
        async with run_service(lambda settings: None):  # type: ignore[arg-type, return-value]
            raise AssertionError
    with pytest.raises(ValueError, match="jobs='by hand': there are by_hand, inline, live"):
        async with run_service(make_app, jobs="by hand"):  # type: ignore[arg-type]
            raise AssertionError


@pytest.mark.process
async def test_it_runs_on_a_database_of_its_own_on_postgresql(
    postgresql: PostgreSQL, qaa_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A URL without user and host lost two of its slashes.
    monkeypatch.setenv("PGUSER", "postgres")
    url = postgresql.url().replace("postgres@", "")
    settings = qaa_settings.model_copy(update={"database_url": url})
    async with run_service(make_app, settings) as service:
        await service.api.submit("pack", {"order": 7})
        [job] = await service.drain()
        await service.advance(days=1)
    assert job.result == "parcel 7"
    with postgresql.connect() as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'qaa%'").fetchall()
    assert left == []


@pytest.mark.process
async def test_a_template_that_a_killed_run_had_left_was_copied_with_its_old_tables(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    def making(table: str) -> Migrate:
        async def migrate(url: str) -> None:
            async with await psycopg.AsyncConnection.connect(of_psycopg(url), autocommit=True) as connection:
                await connection.execute(f"CREATE TABLE {table} ()".encode())

        return migrate

    async def tables(folder: Path, table: str) -> list[tuple[str]]:
        async with Templates(folder).database(postgresql.url()) as (url, create):
            await create("kind", making(table))
            async with await psycopg.AsyncConnection.connect(of_psycopg(url)) as connection:
                found = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
                return await found.fetchall()

    folder = tmp_path / "run"
    for table in ("old", "new"):
        folder.mkdir()  # as pytest does for --basetemp
        assert await tables(folder, table) == [(table,)]
        assert await tables(folder, "other") == [(table,)]  # of another worker of the same run
        shutil.rmtree(folder)
    with postgresql.connect() as connection:
        [(left,)] = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'qaa%'").fetchall()
        connection.execute(f'DROP DATABASE "{left}"'.encode())
