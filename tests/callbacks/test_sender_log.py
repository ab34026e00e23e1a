"""What an operator reads in the log of callbacks: each try at info, and what is given up for good as a warning."""

import logging

import pytest

from quart_async_api.callbacks.deliveries import REVOKED
from quart_async_api.callbacks.sender import BREAKER_FAILURES

from .conftest import Make, on_sqlite
from .receiver import Receiver, answering
from .test_revoked import made

pytestmark = on_sqlite


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Not here."""
    caplog.set_level(logging.INFO, "quart_async_api.callbacks.sender")


def lines(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelname == level and "callback" in line.getMessage()]


async def test_giving_up_was_logged_like_a_first_try(
    make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(callback_schedule=(0, 5))
    receiver.otherwise = answering(503)
    job = await service.ended(receiver.url)
    await service.attempts(job, 1)
    await service.let_go()
    [callback] = await service.callbacks_of(job)
    assert lines(caplog, "WARNING") == []
    [first] = lines(caplog, "INFO")
    beginning = f"callback {callback['id']} to {receiver.origin}: status 503 in try"
    assert first == f"{beginning} 1, again at {callback['next_attempt_at']}"
    await service.pass_to(callback)
    await service.settled(job)
    await service.let_go()
    assert lines(caplog, "WARNING") == [f"{beginning} 2, given up"]
    [line] = [line for line in caplog.records if line.levelname == "WARNING"]
    assert (vars(line)["message_id"], vars(line)["origin"], vars(line)["tries"]) == (callback["id"], receiver.origin, 2)


async def test_a_callback_that_arrives_is_no_warning(
    make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(callback_schedule=(0,))
    await service.settled(await service.ended(receiver.url))
    await service.let_go()
    assert lines(caplog, "WARNING") == []
    [line] = lines(caplog, "INFO")
    assert line.endswith("status 200 in try 1")


async def test_what_a_410_ends_with_it_is_counted(
    make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(sender=False)
    receiver.otherwise = answering(410)
    jobs = [await service.ended(receiver.url) for _ in range(3)]
    await service.start_sender()
    await service.settled(*jobs)
    await service.let_go()
    tried, others = lines(caplog, "WARNING")
    assert tried.endswith("status 410 in try 1, given up")
    assert others.startswith(f"2 callbacks to {receiver.origin} given up: ")


async def test_what_never_had_its_turn_is_counted_when_it_is_given_up(
    make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(sender=False, callback_schedule=(0, 10))
    receiver.otherwise = answering(500)
    jobs = [await service.ended(receiver.url) for _ in range(BREAKER_FAILURES + 2)]
    await service.start_sender()
    await receiver.got(BREAKER_FAILURES)
    await service.let_go()
    service.pass_time(3700)
    await service.settled(*jobs)
    await service.let_go()
    assert [line for line in lines(caplog, "WARNING") if " callbacks to " in line]


async def test_what_a_revoked_key_has_left_is_counted(
    make: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service = await make(sender=False)
    keys, key = await made(service)
    jobs = [await service.ended(receiver.url, key.id) for _ in range(2)]
    await keys.revoke(key.id)
    await service.start_sender()
    await service.settled(*jobs)
    await service.let_go()
    assert lines(caplog, "WARNING") == [f"2 callbacks to {receiver.origin} given up: {REVOKED}"]
