"""Standard Webhooks 1.0: the published vector, and what arrives as an independent library sees it."""

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from quart_async_api.callbacks.signature import headers, new_secret, signature
from quart_async_api.observability.tracing import RequestContext, enter

from .conftest import SECRET, Make
from .receiver import Receiver, answering

OTHER = new_secret()


def test_the_published_vector_is_signed_as_published() -> None:
    body = b'{"test": 2432232314}'
    assert signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_new_secret_is_32_random_bytes_that_the_library_takes() -> None:
    assert len({new_secret() for _ in range(10)}) == 10
    assert len(Webhook(new_secret())._whsecret) == 32


@pytest.mark.parametrize("secret", ["whsec_no base64", "whsec_YQ", "whsec_é"])
def test_what_is_no_secret_signs_nothing(secret: str) -> None:
    with pytest.raises(ValueError, match=r"secret|ASCII"):
        signature(secret, "msg_1", 1, b"{}")


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ValueError, match="migrate"):
        headers("msg_1", 1, b"{}", [])


async def test_what_arrives_is_verified_by_the_library(make: Make, receiver: Receiver) -> None:
    service = await make()
    job = await service.ended(receiver.url)
    [sent] = await receiver.got(1)
    sent.verify(SECRET)
    assert sent.id.startswith("msg_")
    assert "." not in sent.id
    assert sent.headers["content-type"] == "application/json"
    assert sent.event.keys() == {"type", "timestamp", "data"}
    assert sent.event["type"] == "job.cancelled"
    assert sent.event["data"] == (await service.store.reading.get(job.id, None)).document()
    with pytest.raises(WebhookVerificationError):
        sent.verify(OTHER)


async def test_while_two_secrets_are_valid_both_sign(make: Make, receiver: Receiver) -> None:
    service = await make()
    await service.know(OTHER)
    await service.know(new_secret(), expires_at=service.now())
    await service.ended(receiver.url)
    [sent] = await receiver.got(1)
    assert len(sent.headers["webhook-signature"].split(" ")) == 2
    sent.verify(SECRET)
    sent.verify(OTHER)


async def test_a_key_signs_with_its_own_secret_and_without_one_with_the_services(
    make: Make, receiver: Receiver
) -> None:
    service = await make(sender=False)
    await service.know(OTHER, key_id="key-1")
    for owner in ("key-1", "key-2"):
        await service.ended(receiver.url, owner)
    await service.start_sender()
    with_its_own, without = await receiver.got(2)
    with_its_own.verify(OTHER)
    without.verify(SECRET)


async def test_a_secret_that_is_none_fails_the_try_and_stops_nobody(make: Make, receiver: Receiver) -> None:
    service = await make(callback_schedule=(0, 0.01))
    await service.know("whsec_no base64", key_id="key-1")
    job = await service.ended(receiver.url)
    await receiver.got(1)
    await service.settled(job)
    await service.write(("UPDATE callback_deliveries SET owner = ?", ("key-1",)))
    [callback] = await service.callbacks_of(job)
    await service.deliveries.replay(job.id, callback["id"], service.now())
    [callback] = await service.settled(job)
    assert callback["status"] == "failed"
    assert "a secret must be" in callback["attempts"][-1]["error"]
    assert len(callback["attempts"]) == 3
    assert len(receiver.sent) == 1


async def test_every_try_has_its_own_timestamp_and_the_trace_of_the_job(make: Make, receiver: Receiver) -> None:
    service = await make(callback_schedule=(0, 60))
    receiver.script = [answering(500)]
    trace = "0af7651916cd43dd8448eb211c80319c"
    task = service.submissions.task("double")
    arguments = service.submissions.arguments(task, {"number": 1})
    enter(RequestContext("1", f"00-{trace}-b7ad6b7169203331-01"))
    options = service.called_back(receiver.url, run_at=service.submissions.later(1000))
    job = await service.submissions.submit(task, arguments, options)
    await service.submissions.cancel(job.id)
    await service.attempts(job, 1)
    service.pass_time(67)
    first, second = await receiver.got(2)
    assert 59 < int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) < 600
    assert first.id == second.id
    assert first.body == second.body
    spans = {sent.headers["traceparent"].split("-")[2] for sent in (first, second)}
    assert len(spans - {"b7ad6b7169203331"}) == 2
    assert {sent.headers["traceparent"].split("-")[1] for sent in (first, second)} == {trace}
