"""What is sent, when and how often, as the targets see it: each way to fail, order, the breaker, several senders, crashes."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_async_api import stored
from quart_async_api.callbacks import sender as sender_module
from quart_async_api.callbacks.deliveries import GAVE_UP, GONE, SUPERSEDED
from quart_async_api.callbacks.outbox import PROGRESS, TERMINAL_TYPES
from quart_async_api.callbacks.post import KEPT_BYTES, _retry_after
from quart_async_api.callbacks.sender import BATCH, BREAKER_FAILURES
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.jobs.states import JobRecord
from quart_async_api.moments import later
from tests.engine import sample_tasks
from tests.engine.conftest import PATIENCE, until

from .conftest import SCHEDULE, Make, Service, is_after, on_sqlite
from .receiver import (
    OK,
    Answer,
    Receiver,
    answering,
    dripping,
    endless,
    hang,
    hang_in_the_body,
    hang_in_the_middle,
    hang_up,
    raw,
    when,
)

REFUSED = "http://127.0.0.1:1/hook"  # nobody listens there


@pytest.fixture
async def gate() -> asyncio.Event:
    return asyncio.Event()


# What each answer means


@on_sqlite
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_success(make: Make, receiver: Receiver, status: int) -> None:
    service = await make()
    receiver.otherwise = answering(status, b"" if status == 204 else b"thanks")
    [callback] = await service.settled(await service.ended(receiver.url))
    assert callback["status"] == "delivered"
    assert callback["next_attempt_at"] is None
    [attempt] = callback["attempts"]
    assert (attempt["number"], attempt["status"], attempt["error"]) == (1, status, None)
    assert attempt["body"] == ("" if status == 204 else "thanks")


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        pytest.param(answering(500, b"oh"), 500, "status 500", id="500"),
        pytest.param(answering(400, b"oh"), 400, "status 400", id="400"),
        pytest.param(answering(404), 404, "status 404", id="404"),
        pytest.param(answering(429), 429, "status 429", id="429"),
        pytest.param(answering(300), 300, "redirects are not followed", id="300"),
        pytest.param(answering(304), 304, "redirects are not followed", id="304"),
        pytest.param(answering(302, location="/"), 302, "redirects are not followed", id="302"),
        pytest.param(raw(b"HTTP/1.1 101 Up\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"), 101, "status 101", id="101"),
        pytest.param(hang, None, "no answer within 2 s", id="hangs before the answer"),
        pytest.param(hang_in_the_middle, None, "no answer within 2 s", id="hangs in the head"),
        pytest.param(hang_in_the_body(500), 500, "status 500", id="hangs in the body of an error"),
        pytest.param(hang_up, None, "disconnected", id="hangs up"),
        pytest.param(raw(b"\x00\xff no HTTP\r\n\r\n"), None, "Bad status line", id="no HTTP"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000), None, "more than", id="a head without end"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000), None, "headers", id="headers without end"),
    ],
)
async def test_every_other_answer_is_kept_and_tried_again_on_the_schedule(
    make: Make, receiver: Receiver, answer: Answer, status: int | None, error: str
) -> None:
    service = await make(callback_timeout=2)  # in which a busy machine can still deliver
    receiver.script = [answer]
    job = await service.ended(receiver.url)
    [attempt] = await service.attempts(job, 1)
    assert attempt["status"] == status
    assert error in attempt["error"]
    [callback] = await service.callbacks_of(job)
    assert callback["status"] == "pending"
    assert is_after(callback, SCHEDULE[1])
    await service.pass_to(callback)
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"
    assert len({sent.id for sent in receiver.sent}) == 1


class Nobody(AbstractResolver):
    async def resolve(self, *_: object, **__: object) -> Any:
        raise OSError(None, "Name or service not known")

    async def close(self) -> None: ...


class Silent(Nobody):
    async def resolve(self, *_: object, **__: object) -> Any:
        await asyncio.Event().wait()


@on_sqlite
@pytest.mark.parametrize(
    ("url", "resolver", "error"),
    [
        pytest.param(REFUSED, None, "Connect call failed", id="refused"),
        pytest.param("http://nobody.example/", Nobody(), "Name or service not known", id="no such name"),
        pytest.param("http://nobody.example/", Silent(), "no answer within 0.3 s", id="no name server"),
    ],
)
async def test_a_target_that_is_not_reached_is_tried_until_the_schedule_is_over(
    make: Make, url: str, resolver: AbstractResolver | None, error: str
) -> None:
    service = await make(callback_timeout=0.3 if isinstance(resolver, Silent) else 60, resolver=resolver)
    job = await service.ended(url)
    for tries in range(1, len(SCHEDULE)):
        assert error in (await service.attempts(job, tries))[-1]["error"]
        [callback] = await service.callbacks_of(job)
        assert callback["status"] == "pending"
        assert is_after(callback, SCHEDULE[tries])
        await service.pass_to(callback)
    [callback] = await service.settled(job)
    assert callback["status"] == "failed"
    assert callback["next_attempt_at"] is None
    assert [attempt["number"] for attempt in callback["attempts"]] == [1, 2, 3, 4]


@on_sqlite
async def test_a_target_that_speaks_no_tls_is_told_of(make: Make) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        service = await make()
        job = await service.ended(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        [attempt] = await service.attempts(job, 1)
    assert "SSL" in attempt["error"]


@on_sqlite
async def test_each_wait_has_a_jitter_of_its_own(make: Make) -> None:
    service = await make(callback_schedule=(0, 100))
    waits = set()
    for port in range(1, 6):
        job = await service.ended(f"http://127.0.0.1:{port}/")
        await service.attempts(job, 1)
        [callback] = await service.callbacks_of(job)
        assert is_after(callback, 100)
        waits.add(callback["next_attempt_at"])
    assert len(waits) == 5


@on_sqlite
@pytest.mark.parametrize("answer", [endless, dripping, hang_in_the_body(200)])
async def test_a_body_without_end_is_success_cut_off(make: Make, receiver: Receiver, answer: Answer) -> None:
    service = await make(callback_timeout=2)  # in which a busy machine can still deliver
    receiver.script = [answer]
    [callback, _] = await service.settled(await service.ended(receiver.url), await service.ended(receiver.url))
    assert callback["status"] == "delivered"
    assert 0 < len(callback["attempts"][0]["body"]) <= KEPT_BYTES
    first, second = await receiver.got(2)
    assert first.ended <= second.began


async def test_what_no_text_can_hold_is_kept_as_well_as_can_be(make: Make, receiver: Receiver) -> None:
    service = await make()
    receiver.otherwise = answering(500, b"\x00\xff\xed\xa0\x80" + "ü".encode() * 1000)
    [attempt] = await service.attempts(await service.ended(receiver.url), 1)
    assert attempt["body"].startswith("\N{REPLACEMENT CHARACTER}" * 2)
    assert "ü" in attempt["body"]
    assert len(attempt["body"]) <= KEPT_BYTES
    receiver.otherwise = raw(b"HTTP/1.1 \x00\xff\xed\xa0\x80\r\n\r\n")
    assert (await service.attempts(await service.ended(f"{receiver.origin}/other"), 1))[0]["error"]


async def test_410_disables_the_exact_url_until_a_replay(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False)
    receiver.paths["/gone"] = answering(410, b"bye")
    gone = f"{receiver.origin}/gone"
    first, waiting, other = [await service.ended(url) for url in (gone, gone, receiver.url)]
    await service.start_sender()
    [callback, failed, delivered] = await service.settled(first, waiting, other)
    assert callback["status"] == "failed"
    assert [(attempt["status"], attempt["body"]) for attempt in callback["attempts"]] == [(410, "bye")]
    assert failed["status"] == "failed"
    assert [attempt["error"] for attempt in failed["attempts"]] == [GONE]
    assert delivered["status"] == "delivered"

    [failed] = await service.callbacks_of(await service.ended(gone))
    assert failed["status"] == "failed"
    assert [attempt["error"] for attempt in failed["attempts"]] == [GONE]
    assert len(receiver.sent) == 2

    del receiver.paths["/gone"]
    await service.deliveries.replay(first.id, callback["id"], service.now())
    [callback] = await service.settled(first)
    assert callback["status"] == "delivered"
    [callback] = await service.settled(await service.ended(gone))
    assert callback["status"] == "delivered"


@on_sqlite
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date", "date of asctime"])
async def test_retry_after_holds_the_delivery_and_the_origin(
    make: Make, receiver: Receiver, another: Receiver, status: int, form: str
) -> None:
    service = await make()
    at = datetime.now(UTC) + timedelta(seconds=1000)
    value = {
        "seconds": "1000",
        "date": format_datetime(at, usegmt=True),
        "date of asctime": f"{at:%a %b %d %H:%M:%S %Y}",
    }
    receiver.script = [answering(status, retry_after=value[form])]
    job = await service.ended(receiver.url)
    await service.attempts(job, 1)
    await service.let_go()
    [callback] = await service.callbacks_of(job)
    assert -10 < (datetime.fromisoformat(callback["next_attempt_at"]) - at).total_seconds() < 60
    held = await service.ended(f"{receiver.origin}/other")
    elsewhere = await service.ended(another.url)
    await service.settled(elsewhere)
    service.pass_time(900)
    await service.settled(await service.ended(another.url))
    assert len(receiver.sent) == 1
    service.pass_time(110)
    await service.settled(job, held)
    assert receiver.jobs == [job.id, job.id, held.id]


@on_sqlite
async def test_retry_after_is_not_forgotten_while_nothing_is_to_be_sent(make: Make, receiver: Receiver) -> None:
    service = await make(callback_schedule=(0,))
    receiver.script = [answering(429, retry_after="1000")]
    await service.settled(await service.ended(receiver.url))
    await service.let_go()
    await service.deliveries.clean(service.now())
    job = await service.ended(receiver.url)
    await service.deliveries.clean(service.now())
    assert not await service.queues.is_due(service.now())
    service.pass_time(1001)
    await service.settled(job)


@on_sqlite
async def test_no_retry_after_is_heeded_for_longer_than_a_day(make: Make, receiver: Receiver) -> None:
    service = await make()
    receiver.script = [answering(503, retry_after="99999999999999999999")]
    job = await service.ended(receiver.url)
    await service.attempts(job, 1)
    [callback] = await service.callbacks_of(job)
    assert callback["next_attempt_at"] <= later(callback["attempts"][0]["at"], 86_400)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.text()
    | st.from_regex(r"\w{3}, \d+ \w{3} -?\d+ \d+:\d+:\d+ ([+-]\d+|GMT)")
    | st.sampled_from(["Fri, 31 Dec 99999999999999999999 23:59:59 GMT", "Mon, 1 Jan 1 0:0:0 +9999", "-1", "1e9", "inf"])
)
def test_no_retry_after_can_break_the_sender(value: str) -> None:
    response = httpx.Response(503, headers=[(b"retry-after", value.encode("utf-8", "replace"))])
    assert 0 <= _retry_after(response) < 1e12


# Order


async def test_an_origin_gets_one_at_a_time_in_the_order_of_the_ends(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False)
    jobs = [await service.ended(f"{receiver.origin}/{number % 3}") for number in range(BATCH + 5)]
    await service.start_sender()
    await service.settled(*jobs)
    assert receiver.jobs == [job.id for job in jobs]
    assert receiver.most_at_once == 1
    assert all(one.ended <= following.began for one, following in itertools.pairwise(receiver.sent))


async def test_two_origins_are_called_at_once(
    make: Make, receiver: Receiver, another: Receiver, gate: asyncio.Event
) -> None:
    service = await make()
    receiver.otherwise = another.otherwise = when(gate)
    jobs = [await service.ended(url) for url in (receiver.url, receiver.url, another.url)]
    await receiver.got(1)
    await another.got(1)
    assert len(receiver.sent) == 1
    gate.set()
    await service.settled(*jobs)


@on_sqlite
async def test_what_is_tried_again_holds_up_nothing_newer(make: Make, receiver: Receiver) -> None:
    service = await make()
    receiver.script = [answering(500)]
    first, second = await service.ended(receiver.url), await service.ended(receiver.url)
    await service.settled(second)
    [callback] = await service.callbacks_of(first)
    assert callback["status"] == "pending"


# The breaker


@pytest.mark.slow
@pytest.mark.parametrize("answer", [hang, hang_up, answering(500)], ids=["hangs", "hangs up", "500"])
async def test_a_dead_origin_delays_no_other_and_is_not_hammered_and_all_arrive_when_it_recovers(
    make: Make, receiver: Receiver, another: Receiver, answer: Answer
) -> None:
    seconds = 2 if answer is hang else 60  # a busy machine needs some for the others
    service = await make(
        sender=False, callback_timeout=seconds, callback_schedule=(0, 100, 200, 300, 400, 500, 600, 700)
    )
    receiver.otherwise = answer
    dead = [await service.ended(receiver.url) for _ in range(12)]
    alive = [await service.ended(another.url) for _ in range(12)]
    await service.start_sender()
    await service.settled(*alive)
    await receiver.got(BREAKER_FAILURES)
    await service.let_go()
    assert len(receiver.sent) == BREAKER_FAILURES
    for probes in range(1, 4):
        service.pass_time(331)  # longer than the breaker is ever open
        await receiver.got(BREAKER_FAILURES + probes)
        await service.let_go()
        assert len(receiver.sent) == BREAKER_FAILURES + probes
    receiver.otherwise = OK
    service.pass_time(1000)
    assert {callback["status"] for callback in await service.settled(*dead)} == {"delivered"}
    assert (await service.origins())[receiver.origin]["failures"] == 0
    assert len(receiver.sent) == BREAKER_FAILURES + 3 + 12


@on_sqlite
async def test_the_breaker_reopens_after_one_failure_and_closes_after_one_success(
    make: Make, receiver: Receiver
) -> None:
    service = await make(sender=False, callback_schedule=(0, 10, 20))
    receiver.script = [answering(500)] * BREAKER_FAILURES
    jobs = [await service.ended(receiver.url) for _ in range(8)]
    await service.start_sender()
    await receiver.got(BREAKER_FAILURES)
    await service.let_go()
    [origin] = (await service.origins()).values()
    assert origin["failures"] == BREAKER_FAILURES
    assert origin["open_until"] > service.now()
    service.pass_time(30)
    assert {callback["status"] for callback in await service.settled(*jobs)} == {"delivered"}


@on_sqlite
async def test_with_one_call_at_once_a_dead_origin_costs_the_others_one_try(
    make: Make, receiver: Receiver, another: Receiver
) -> None:
    service = await make(sender=False, callback_timeout=2, callback_concurrency=1)
    receiver.otherwise = hang
    for _ in range(BREAKER_FAILURES):
        await service.ended(receiver.url)
    alive = await service.ended(another.url)
    await service.start_sender()
    await service.settled(alive)
    assert all(again.began > another.sent[0].began for again in receiver.sent[1:])


@on_sqlite
async def test_origins_that_want_more_than_there_are_slots_take_turns(
    make: Make, receiver: Receiver, another: Receiver
) -> None:
    service = await make(sender=False, callback_concurrency=1)
    jobs = [await service.ended(url) for url in (receiver.url, another.url) for _ in range(2 * BATCH)]
    await service.start_sender()
    await service.settled(*jobs)
    assert receiver.sent[0].began < another.sent[-1].began
    assert another.sent[0].began < receiver.sent[-1].began


@on_sqlite
async def test_what_never_had_its_turn_is_given_up_when_the_schedule_is_over(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False, callback_schedule=(0, 10))
    receiver.otherwise = answering(500)
    jobs = [await service.ended(receiver.url) for _ in range(BREAKER_FAILURES + 2)]
    await service.start_sender()
    await receiver.got(BREAKER_FAILURES)
    await service.let_go()
    service.pass_time(3700)
    callbacks = await service.settled(*jobs)
    assert {callback["status"] for callback in callbacks} == {"failed"}
    assert callbacks[-1]["attempts"][-1]["error"] == GAVE_UP


# Progress


async def run_telling_progress(service: Service, receiver: Receiver) -> tuple[JobRecord, Callable[[], Awaitable[bool]]]:
    """A job that runs, and what tells of progress that it makes."""
    job = await service.submit("hold", service.called_back(receiver.url, PROGRESS, *TERMINAL_TYPES))
    await until(lambda: job.id in sample_tasks.running)
    [run] = await service.store.reading.runs(service.presence.id)
    return job, lambda: service.store.transitions.record(
        job.id, run.token, service.now(), "progress", {}, 100, progress="{}"
    )


async def test_progress_that_is_superseded_is_dropped_and_never_comes_after_the_end(
    make: Make, receiver: Receiver, gate: asyncio.Event
) -> None:
    service = await make(engine=True)
    receiver.script = [when(gate)]
    job, progress = await run_telling_progress(service, receiver)
    await progress()
    await receiver.got(1)
    await progress()
    await progress()
    sample_tasks.gate("gate").set()
    await service.wait(job)
    gate.set()
    first, *dropped, last = await service.settled(job)
    assert [sent.event["type"] for sent in receiver.sent] == [PROGRESS, "job.succeeded"]
    assert receiver.ids == [first["id"], last["id"]]
    assert [callback["status"] for callback in dropped] == ["failed", "failed"]
    assert [[attempt["error"] for attempt in callback["attempts"]] for callback in dropped] == [[SUPERSEDED]] * 2


@on_sqlite
async def test_progress_that_failed_is_not_tried_again_after_the_end(make: Make, receiver: Receiver) -> None:
    service = await make(engine=True)
    receiver.script = [answering(500)]
    job, progress = await run_telling_progress(service, receiver)
    await progress()
    await service.attempts(job, 1)
    await service.submissions.cancel(job.id)
    await receiver.got(2)
    service.pass_time(6)
    told, end = await service.settled(job)
    assert told["status"] == "failed"
    assert told["attempts"][-1]["error"] == SUPERSEDED
    assert end["status"] == "delivered"
    assert [sent.event["type"] for sent in receiver.sent] == [PROGRESS, "job.cancelled"]


@on_sqlite
async def test_progress_that_somebody_replays_is_sent_although_it_is_superseded(make: Make, receiver: Receiver) -> None:
    service = await make(engine=True)
    options = service.called_back(receiver.url, PROGRESS, "job.succeeded")
    job = await service.wait(await service.submit("flaky", options, failures=0))
    progress, _ = await service.settled(job)
    before = len(receiver.sent)
    await service.deliveries.replay(job.id, progress["id"], service.now())
    [again, _] = await service.settled(job)
    assert again["status"] == "delivered"
    assert receiver.ids[before:] == [progress["id"]]


# Several senders, and those that die


async def test_several_senders_never_call_one_origin_at_once(make: Make, receiver: Receiver, another: Receiver) -> None:
    services = [await make(callback_schedule=(0, 5, 5, 5)) for _ in range(3)]
    for target in (receiver, another):
        target.script = [answering(500)] * 3  # on a busy machine, all to the same callback
    jobs = [await service.ended(target.url) for _ in range(5) for service in services for target in (receiver, another)]
    for service in services:
        service.pass_time(20)
    await services[0].settled(*jobs)
    for target in (receiver, another):
        assert target.most_at_once == 1
        assert len(set(target.jobs)) == 15
        assert len(target.sent) == 18


async def test_the_origins_of_one_that_dies_are_taken_over(make: Make, receiver: Receiver) -> None:
    dying = await make()
    receiver.script = [hang]
    job = await dying.ended(receiver.url)
    await receiver.got(1)
    other = await make()
    await dying.die()
    [callback] = await other.settled(job)
    assert callback["status"] == "delivered"
    assert len(callback["attempts"]) == 1
    assert receiver.ids == [callback["id"]] * 2


async def test_after_a_crash_of_the_only_sender_the_next_one_sends(make: Make, receiver: Receiver) -> None:
    dying = await make()
    receiver.script = [hang]
    job = await dying.ended(receiver.url)
    await receiver.got(1)
    await dying.die()
    other = await make()
    await other.settled(job)
    assert receiver.ids == [receiver.ids[0]] * 2


@pytest.mark.parametrize("committed", [False, True], ids=["before its commit", "after its commit"])
@pytest.mark.parametrize("step", ["claim", "record", "release"])
async def test_a_sender_that_is_killed_at_any_step_leaves_everything_to_the_next(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, step: str, committed: bool
) -> None:
    dying = await make()
    run, reached = dying.commits.run, asyncio.Event()

    async def stopping(unit: Any, *settled: Any) -> Any:
        if not unit.__qualname__.startswith((f"CallbackQueues.{step}.", f"Deliveries.{step}.")):
            return await run(unit, *settled)
        if committed:
            await run(unit, *settled)
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(dying.commits, "run", stopping)
    job = await dying.ended(receiver.url)
    await reached.wait()
    await dying.die()
    monkeypatch.setattr(dying.commits, "run", run)
    other = await make()
    [callback] = await other.settled(job)
    assert callback["status"] == "delivered"
    assert set(receiver.ids) == {callback["id"]}
    assert len(receiver.sent) == (2 if (step, committed) == ("record", False) else 1)
    await other.settled(await other.ended(receiver.url))


async def test_what_a_lost_worker_writes_late_is_refused_and_the_other_sends_under_the_same_id(
    make: Make, receiver: Receiver, gate: asyncio.Event
) -> None:
    slow = await make()
    receiver.script = [when(gate)]
    job = await slow.ended(receiver.url)
    await receiver.got(1)
    await slow.store.crashes.bury(slow.presence.id, slow.now(), 60, 3, "{}")
    await slow.queues.free_orphans()
    other = await make()
    [callback] = await other.settled(job)
    gate.set()
    await slow.let_go()
    assert receiver.ids == [callback["id"]] * 2
    [callback] = await other.callbacks_of(job)
    assert callback["status"] == "delivered"
    assert len(callback["attempts"]) == 1
    [origin] = (await other.origins()).values()
    assert origin["worker"] is None


async def test_one_that_was_declared_dead_and_lives_goes_on_under_another_name(make: Make, receiver: Receiver) -> None:
    service = await make(callback_timeout=600)
    receiver.script = [hang]
    job = await service.ended(receiver.url)
    await receiver.got(1)
    before = service.presence.id
    await service.store.crashes.bury(before, service.now(), 60, 3, "{}")
    [callback] = await service.settled(job)
    assert service.presence.id != before
    assert callback["status"] == "delivered"
    assert receiver.most_at_once == 1
    await service.let_go()
    await service.settled(await service.ended(receiver.url))


@pytest.mark.parametrize("step", ["record", "release", "claim", "record after its commit"])
async def test_while_the_database_fails_nothing_is_lost_and_no_origin_stays_stuck(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(sender_module, "ORPHANS_SECONDS", 0.05)
    service = await make()
    run, failed = service.commits.run, asyncio.Event()
    name, _, after = step.partition(" ")

    async def failing(unit: Any, *settled: Any) -> Any:
        if not unit.__qualname__.startswith((f"CallbackQueues.{name}.", f"Deliveries.{name}.")):
            return await run(unit, *settled)
        if after:
            await run(unit, *settled)
        failed.set()
        raise DatabaseUnavailable("the database is full")

    monkeypatch.setattr(service.commits, "run", failing)
    job = await service.ended(receiver.url)
    await failed.wait()
    monkeypatch.setattr(service.commits, "run", run)
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"
    assert set(receiver.ids) == {callback["id"]}
    again = await service.ended(receiver.url)
    await service.settled(again)


async def test_a_sender_that_stops_ends_what_it_sends_and_lets_go(
    make: Make, receiver: Receiver, gate: asyncio.Event
) -> None:
    service = await make()
    receiver.script = [when(gate)]
    sending, waiting = await service.ended(receiver.url), await service.ended(receiver.url)
    await receiver.got(1)
    draining = asyncio.create_task(service.sender.drain(PATIENCE))
    await asyncio.sleep(0)
    gate.set()
    await draining
    [sent], [kept] = await service.callbacks_of(sending), await service.callbacks_of(waiting)
    assert sent["status"] == "delivered"
    assert kept["status"] == "pending"
    [origin] = (await service.origins()).values()
    assert origin["worker"] is None
    other = await make()
    await other.settled(waiting)


async def test_a_sender_that_stops_waits_for_a_hanging_target_no_longer_than_it_may(
    make: Make, receiver: Receiver
) -> None:
    service = await make(callback_timeout=600)
    receiver.script = [hang]
    job = await service.ended(receiver.url)
    await receiver.got(1)
    async with asyncio.timeout(PATIENCE):
        await service.sender.drain(0.05)
    [origin] = (await service.origins()).values()
    assert origin["worker"] is None
    [callback] = await service.callbacks_of(job)
    assert callback["attempts"] == []
    other = await make()
    await other.settled(job)


# Replays


async def test_a_replay_during_the_last_try_is_sent_again(make: Make, receiver: Receiver, gate: asyncio.Event) -> None:
    service = await make(callback_schedule=(0,))
    receiver.script = [when(gate, answering(500))]
    job = await service.ended(receiver.url)
    await receiver.got(1)
    [callback] = await service.callbacks_of(job)
    await service.deliveries.replay(job.id, callback["id"], service.now())
    gate.set()
    [callback] = await service.settled(job)
    assert callback["status"] == "delivered"
    assert [attempt["status"] for attempt in callback["attempts"]] == [500, 200]


@on_sqlite
async def test_a_replay_goes_past_an_open_breaker_and_starts_the_schedule_anew(make: Make, receiver: Receiver) -> None:
    service = await make(sender=False)
    receiver.otherwise = answering(503, retry_after="5000")
    job = await service.ended(receiver.url)
    await service.start_sender()
    await service.attempts(job, 1)
    await service.let_go()
    [callback] = await service.callbacks_of(job)
    await service.deliveries.replay(job.id, callback["id"], service.now())
    service.sender.wake()
    await service.attempts(job, 2)
    [callback] = await service.callbacks_of(job)
    assert callback["status"] == "pending"
    assert receiver.ids == [callback["id"]] * 2


# What cannot be processed


@on_sqlite  # which stores what no column of PostgreSQL takes
@pytest.mark.parametrize(
    "garbage",
    [
        "UPDATE callback_deliveries SET body = X'ff' WHERE job_id = ?",
        "UPDATE callback_deliveries SET url = X'ff' WHERE job_id = ?",
        "INSERT INTO webhook_secrets (key_id, secret, created_at) SELECT 'a', X'ff', '' WHERE ? <> ''",
        "INSERT INTO webhook_secrets (key_id, secret, created_at) SELECT 'a', CAST(X'ff' AS TEXT), '' WHERE ? <> ''",
    ],
)
async def test_a_callback_that_cannot_be_processed_is_set_aside_and_holds_up_no_other(
    make: Make, receiver: Receiver, garbage: str
) -> None:
    service = await make(sender=False)
    bad = await service.ended(receiver.url, "a")
    await service.write((garbage, (bad.id,)))
    good = [await service.ended(receiver.url, owner) for owner in ("b", "a" if "UPDATE" in garbage else "b")]
    before = len(stored.unreadable)
    await service.start_sender()
    assert [callback["status"] for callback in await service.settled(*good)] == ["delivered", "delivered"]
    [callback] = await service.settled(bad)
    [attempt] = callback["attempts"]
    assert callback["status"] == "failed"
    assert attempt["error"].startswith("set aside: it cannot be processed (")
    assert len(stored.unreadable) == before + 1
