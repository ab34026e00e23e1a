"""`verify` takes what the standard's signers sign, and refuses everything else with the reason."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook
from werkzeug.datastructures import Headers

from quart_async_api.callbacks import signature
from quart_async_api.client import ClientError, InvalidSignature, verify

# The vector that the standard's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SENT_AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": MESSAGE_ID, "webhook-timestamp": str(SENT_AT), "webhook-signature": SIGNATURE}
OTHER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def at(seconds: float) -> Callable[[], float]:
    return lambda: SENT_AT + seconds


def test_the_published_vector_is_taken() -> None:
    assert verify(HEADERS, BODY, SECRET, now=at(0)) == {"test": 2432232314}


def test_a_body_may_be_text_and_headers_of_any_framework_in_any_case() -> None:
    headers = Headers([(name.title(), value) for name, value in HEADERS.items()])
    assert verify(headers, BODY.decode(), SECRET, now=at(0)) == {"test": 2432232314}


def test_what_the_independent_library_signs_is_taken() -> None:
    now = datetime.now(UTC)
    body = '{"type":"job.succeeded","data":{"text":"gr\u00fc\u00df dich"}}'
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(OTHER).sign("msg_1", now, body),
    }
    assert verify(headers, body.encode(), OTHER)["type"] == "job.succeeded"


def test_what_the_service_signs_is_taken_here_and_by_the_independent_library() -> None:
    body = json.dumps({"type": "job.failed"}).encode()
    headers = signature.headers("msg_2", int(time.time()), body, [OTHER, SECRET])
    assert verify(headers, body, SECRET) == verify(headers, body, OTHER) == {"type": "job.failed"}
    assert Webhook(SECRET).verify(body, headers) == Webhook(OTHER).verify(body, headers) == {"type": "job.failed"}


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
def test_any_of_several_secrets_will_do_while_one_takes_the_place_of_another(secrets: tuple[str, ...]) -> None:
    assert verify(HEADERS, BODY, secrets, now=at(0))


@pytest.mark.parametrize("others", ["v1,AAAA {}", "{} v1,AAAA", "v1a,AAAA nonsense v2, {} v1,", "v1,\u00fc {}"])
def test_any_of_several_signatures_will_do(others: str) -> None:
    assert verify({**HEADERS, "webhook-signature": others.format(SIGNATURE)}, BODY, SECRET, now=at(0))


@pytest.mark.parametrize("seconds", [-300, -299.5, 299.5, 300])
def test_five_minutes_are_tolerated_both_ways(seconds: float) -> None:
    assert verify(HEADERS, BODY, SECRET, now=at(seconds))


@pytest.mark.parametrize(
    ("seconds", "tolerance", "says"),
    [(301, 300, "301 s ago; at most 300 s"), (-301, 300, "301 s in the future"), (61, 60, "at most 60 s")],
)
def test_what_was_signed_too_long_ago_or_is_to_come_is_refused(seconds: float, tolerance: float, says: str) -> None:
    with pytest.raises(InvalidSignature, match=says):
        verify(HEADERS, BODY, SECRET, tolerance=tolerance, now=at(seconds))


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_header_is_named(name: str, value: str | None) -> None:
    headers = {key: text for key, text in {**HEADERS, name: value}.items() if text is not None}
    with pytest.raises(InvalidSignature, match=f"header {name} is missing"):
        verify(headers, BODY, SECRET, now=at(0))


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1e9", "1614265330.0", " 1614265330", "9" * 5000, "\u0661", "nan"])
def test_a_timestamp_that_is_no_whole_number_of_seconds_is_refused(timestamp: str) -> None:
    with pytest.raises(InvalidSignature, match="webhook-timestamp is not a whole number"):
        verify({**HEADERS, "webhook-timestamp": timestamp}, BODY, SECRET, now=at(0))


@pytest.mark.parametrize("given", ["v1", "v1a,AAAA", SIGNATURE[3:], SIGNATURE.upper(), "V1" + SIGNATURE[2:], " "])
def test_a_signature_of_no_version_that_is_known_is_none(given: str) -> None:
    with pytest.raises(InvalidSignature):
        verify({**HEADERS, "webhook-signature": given}, BODY, SECRET, now=at(0))


@pytest.mark.parametrize(
    ("changed", "body", "secret"),
    [
        ({}, BODY, OTHER),
        ({}, BODY + b" ", SECRET),
        ({}, b"", SECRET),
        ({}, "\ud800", SECRET),
        ({}, b"\xff", SECRET),
        ({"webhook-id": "msg_2"}, BODY, SECRET),
        ({"webhook-id": "\udcff"}, BODY, SECRET),
        ({"webhook-timestamp": str(SENT_AT + 1)}, BODY, SECRET),
        ({"webhook-signature": SIGNATURE[:-2]}, BODY, SECRET),
        ({"webhook-signature": "v1,"}, BODY, SECRET),
        ({"webhook-signature": "v1,\udcff"}, BODY, SECRET),
    ],
)
def test_what_was_changed_on_its_way_is_refused_without_a_word_of_what_would_fit(
    changed: dict[str, str], body: bytes | str, secret: str
) -> None:
    with pytest.raises(InvalidSignature) as refused:
        verify({**HEADERS, **changed}, body, secret, now=at(0))
    assert "no signature matches" in str(refused.value)
    assert SIGNATURE[3:10] not in str(refused.value)
    assert secret[6:12] not in str(refused.value)
    assert isinstance(refused.value, ClientError)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'"\xff"', b"[" * 100_000], ids=repr)
def test_what_is_signed_and_no_json_object_is_no_callback(body: bytes) -> None:
    headers = signature.headers(MESSAGE_ID, SENT_AT, body, [SECRET])
    with pytest.raises(InvalidSignature, match="the body is not a JSON object"):
        verify(headers, body, SECRET, now=at(0))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whsec_abc", "\u00fc", [], ["", SECRET]])
def test_a_secret_that_is_none_is_the_receivers_mistake_and_takes_nothing(secret: str | list[str]) -> None:
    forged = base64.b64encode(hmac.digest(b"", f"{MESSAGE_ID}.{SENT_AT}.".encode() + BODY, hashlib.sha256)).decode()
    with pytest.raises(ValueError, match="secret"):
        verify({**HEADERS, "webhook-signature": f"v1,{forged}"}, BODY, secret, now=at(0))


@pytest.mark.process
def test_a_receiver_loads_nothing_of_the_server() -> None:
    code = "import sys, quart_async_api.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"quart", "tortoise", "hypercorn", "quart_async_api.callbacks", "quart_async_api.app"} & set(loaded)
