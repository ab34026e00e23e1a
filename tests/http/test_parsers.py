# ruff: noqa: E501
"""Whatever text stands where a date, a number, a cursor or any header is read: an answer, and none of 500."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from quart import Quart
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.http.paging import _encode as cursor_of
from tests.each import each

from .asgi import ask
from .conftest import started

JSON = ((b"content-type", b"application/json"),)
ID = "019aa3c4-5e60-7d21-9f3b-6b2f0c1d8e47"


class Nowhere(AbstractResolver):
    """A network in which no name stands for anything."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> NoReturn:
        raise OSError("no such name")

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """Somewhere that text is read. `put` makes a request of it: method, path, query, headers, body."""

    name: str
    put: Callable[[bytes], tuple[str, str, bytes, tuple[tuple[bytes, bytes], ...], bytes]]

    def __repr__(self) -> str:
        return self.name


def quoted(value: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in value)


def text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass") if is_text(value) else value.decode("latin-1")


def is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8", "surrogatepass")
    except ValueError:
        return False
    return True


def header(name: str, method: str, path: str, *more: tuple[bytes, bytes], body: bytes = b"") -> Place:
    return Place(
        f"{name} of {path}",
        lambda value: (method, path, b"", ((name.lower().encode(), value), *more), body),
    )


def query(name: str, path: str, method: str = "GET") -> Place:
    return Place(f"?{name}= of {path}", lambda value: (method, path, name.encode() + b"=" + quoted(value), (), b""))


def member(path: str, pointer: str, document: dict[str, Any], method: str = "POST") -> Place:
    """A member of a body: as a string, and as whatever the text is in JSON."""

    def put(value: bytes) -> tuple[str, str, bytes, tuple[tuple[bytes, bytes], ...], bytes]:
        mark = "\0mark"
        *above, last = pointer.split("/")
        filled = json.loads(json.dumps(document))
        inner = filled
        for step in above:
            inner = inner.setdefault(step, {})
        inner[last] = mark
        raw = value if value[:1].isdigit() or value[:1] == b"-" else json.dumps(text(value)).encode()
        return method, path, b"", JSON, json.dumps(filled).encode().replace(json.dumps(mark).encode(), raw)

    return Place(f"{pointer} of {path}", put)


JOB = json.dumps({"task": "test"}).encode()
TRACE = (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")
STATIC = "/static/style.css"
PLACES = [
    *(header(name, "GET", STATIC) for name in ("If-Modified-Since", "If-Unmodified-Since", "If-None-Match", "Range")),
    header("If-Range", "GET", STATIC, (b"range", b"bytes=0-10")),
    *(header(name, "GET", "/user/1") for name in ("If-None-Match", "Cookie", "Authorization", "X-Request-ID", "Range")),
    *(header(name, "PATCH", "/user/1", *JSON, body=b'{"name": "a"}') for name in ("If-Match", "Origin", "Referer")),
    *(
        header(name, "POST", "/jobs", *JSON, body=JOB)
        for name in ("Prefer", "Idempotency-Key", "Accept", "Last-Event-ID", "Sec-Fetch-Site", "Traceparent")
    ),
    *(header(name, "GET", "/test") for name in ("Prefer", "Accept", "Last-Event-ID", "Accept-Encoding", "Accept-Language")),
    header("Tracestate", "GET", "/external-api", TRACE),
    *(header(name, "GET", "/users") for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Date", "Expect")),
    header("Content-Type", "POST", "/jobs", body=JOB),
    header("Content-Type", "POST", "/sign-in", body=b"key=a"),
    header("Content-Type", "POST", "/start-task", body=b"{}"),
    header("Content-Length", "POST", "/jobs", *JSON, body=JOB),
    header("Content-Encoding", "POST", "/jobs", *JSON, body=JOB),
    header("Access-Control-Request-Method", "OPTIONS", "/jobs", (b"origin", b"https://a.example")),
    header("Last-Event-ID", "GET", "/jobs/events"),
    *(query(name, "/jobs") for name in ("limit", "cursor", "status", "task", "created_after", "created_before")),
    *(query(name, "/users") for name in ("limit", "cursor", "ticket")),
    *(query(name, "/comic") for name in ("num", "number", "mode", "callback_url", "callback_events")),
    *(query(name, "/start-task", "POST") for name in ("callback_url", "callback_events", "last_event_id")),
    query("next", "/sign-in"),
    query("last_event_id", "/jobs/events"),
    Place("the query of /jobs", lambda value: ("GET", "/jobs", value, (), b"")),
    Place("the cursor of /jobs", lambda value: ("GET", "/jobs", b"cursor=" + cursor_of(text(value)[:2000].encode("ascii", "replace").decode()).encode(), (), b"")),
    Place("the cursor of /users", lambda value: ("GET", "/users", b"cursor=" + cursor_of(text(value)[:5000].encode("ascii", "replace").decode()).encode(), (), b"")),
    *(
        member("/jobs", pointer, {"task": "test"})
        for pointer in ("task", "args", "args/nonsense", "priority", "run_at", "delay", "timeout", "max_attempts")
    ),
    *(member("/jobs", pointer, {"task": "test"}) for pointer in ("callback_url", "callback_events")),
    *(member("/jobs", pointer, {"task": "comic"}) for pointer in ("args/num", "args/number", "args/mode")),
    *(member("/add-user", pointer, {"name": "a", "email": "a@example.com"}) for pointer in ("name", "email")),
    *(member("/user/1", pointer, {}, "PATCH") for pointer in ("name", "email")),
    member("/sign-in", "key", {}),
    *(
        Place(f"the body of {path}", lambda value, path=path: ("POST", path, b"", JSON, value))  # type: ignore[misc]
        for path in ("/jobs", "/add-user", "/sign-in", "/start-task")
    ),
    Place("the form of /sign-in", lambda value: ("POST", "/sign-in", b"", ((b"content-type", b"application/x-www-form-urlencoded"),), value[:4000])),
    Place("the parts of /sign-in", lambda value: ("POST", "/sign-in", b"", ((b"content-type", b"multipart/form-data; boundary=a"),), b"--a\r\n" + value[:4000] + b"\r\n--a--")),
    *(
        Place(path, lambda value, path=path: ("GET", path.replace("…", text(value)), b"", (), b""))  # type: ignore[misc]
        for path in ("/user/…", "/jobs/…", "/jobs/…/events", f"/jobs/{ID}/callbacks/…/replay", "/static/…", "/problems/…")
    ),
]  # fmt: skip

# Those that broke something, here or elsewhere, and what lies at the edges of each kind.
KNOWN = [
    b"", b" ", b"\0", b"\xff", b"\x80\xfe", b"\n", b"\r\n x: y", b'"', b",", b";", b"=", b"%", b"%%%", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80",
    b"0", b"-0", b"-1", b"1.5", b"1e400", b"-1e400", b"1e-400", b"1e999999999", b"9" * 19, b"9" * 5000, b"1" * 400, b"0" * 5000, b"nan", b"inf",
    "²".encode(), "١".encode(), b"null", b"true", b"[]", b"{}", b"[" * 3000, b'{"a":' * 500,
    b"1970-01-01T00:00:00+23:59", b"9000-12-31T23:59:59-23:59", b"0001-01-01T00:00:00Z", b"2026-02-30T00:00:00Z",
    b"2026-06-30T23:59:60Z", b"2026-11-21T07:32:57.1234567Z", b"1970-01-01T00:00:00Z", b"9000-12-31T23:59:59Z",
    b"Sat, 01 Jan 99999999999999999999 00:00:00 GMT", b"Sat, 01 Jan 10000 00:00:00 GMT", b"Sat, 01 Jan 0000 00:00:00 GMT",
    b"Sat, 01 Jan 2000 99:99:99 GMT", b"Mon, 01 Jan 0001 00:00:00 +2359", b"Fri, 31 Dec 9999 23:59:59 -2359", b"Sat, 01 Jan 2000 00:00:00 +99999999",
    b"https://a.example:99999/", b"https://a.example:" + b"9" * 30 + b"/", b"https://a.example:0/", b"https://[::1", b"https://\xff/",
    b"https://xn--/", b"https://a..b/", b"https://" + b"a" * 64 + b".example/", b"https://[v1.a]/", b"https://a.example:-1/", "https://١.example/".encode(),
    b"bytes=0-", b"bytes=-" + b"9" * 5000, b"bytes=" + b"9" * 30 + b"-", b"bytes=0-0,1-1", b"bytes=5-1",
    b"respond-async, wait=" + b"9" * 5000, b"*/*;q=" + b"9" * 5000, b"text/event-stream;q=nan", b"a/b;q=1e400", ID.encode(), ID.encode() + b":" + b"9" * 5000,
    b"application/json; charset=nonsense", b"application/x-www-form-urlencoded; charset=utf-16", b"multipart/form-data; boundary=",
    b"Bearer", b"Bearer \xff", b"Basic \xff", b"qaa_session=\xff; a=\"\\777\"", b"W/", b'W/"', b'"a', b"*", b"..", b"../..", b"a" * 5000,
]  # fmt: skip


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Quart]:
    trusting = {"trusted_proxies": ("127.0.0.1",), "callback_allow_private": True}
    app = create_app(settings.model_copy(update={**trusting, "upstream_timeout": 60.0}), callback_resolver=Nowhere())
    async with app.test_app():
        yield app


def fits(place: Place, value: bytes) -> bytes:
    """What a server would hand over: no line break in a header, no fragment in a query."""
    return value.replace(b"\r", b"").replace(b"\n", b"") if " of /" in place.name else value


async def assert_answered(app: Quart, place: Place, value: bytes) -> None:
    method, path, sent_query, headers, body = place.put(fits(place, value))
    answer = await ask(app, method, path, sent_query, headers, body)
    is_upstreams = b'"type":"/problems/upstream-failed"' in answer.body  # /comic, of a number that has no comic
    assert 200 <= answer.status < 500 or is_upstreams, (place, value, bytes(answer.body))


SHARE = 12  # of all known texts, one in so many at each place; the soak tries all at all


@pytest.mark.slow
async def test_text_that_no_parser_expected_was_answered_with_500(service: Quart) -> None:
    for number, place in enumerate(PLACES):
        for value in KNOWN[number % SHARE :: SHARE]:
            await assert_answered(service, place, value)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_every_known_text_everywhere_is_answered(service: Quart) -> None:
    for place in PLACES:
        for value in KNOWN:
            await assert_answered(service, place, value)


@each("year", ["0000", "10000", "99999999999999999999"])
@each("name", [b"if-modified-since", b"if-unmodified-since", b"if-range"])
async def test_a_year_that_there_is_not_broke_the_static_files(service: Quart, name: bytes, year: str) -> None:
    headers = ((name, f"Sat, 01 Jan {year} 00:00:00 GMT".encode()), (b"range", b"bytes=0-1"))
    assert (await ask(service, "GET", STATIC, headers=headers)).status in (200, 206)


_BYTES = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda value: value.encode("utf-8", "surrogatepass"))
    | st.from_regex(r"[0-9+.,:;=\"TZe -]{1,60}", fullmatch=True).map(str.encode)
    | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", fullmatch=True).map(
        lambda value: value.encode("utf-8", "surrogatepass")
    )
    | st.from_regex(r"(Mon|Sat), \d\d (Jan|Dec) \d{1,30} \d\d:\d\d:\d\d (GMT|[+-]\d{1,10})", fullmatch=True).map(
        str.encode
    )
    | st.from_regex(r"https?://[a-z0-9.:@\[\]%-]{1,60}(:\d{1,30})?/", fullmatch=True).map(str.encode)
    | st.sampled_from(KNOWN)
)


async def any_text(app: Quart, examples: int, *, derandomize: bool) -> None:
    loop = asyncio.get_running_loop()

    @budget(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    @given(place=st.sampled_from(PLACES), value=_BYTES)
    def check(place: Place, value: bytes) -> None:
        asyncio.run_coroutine_threadsafe(assert_answered(app, place, value), loop).result()

    await asyncio.to_thread(check)


@pytest.mark.slow
async def test_any_text_anywhere_is_answered(service: Quart) -> None:
    await any_text(service, 300, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_any_text_anywhere_is_answered_for_long(service: Quart) -> None:
    await any_text(service, 50_000, derandomize=False)


@pytest.mark.parametrize("after", ["1970-01-01T00:00:00+23:59", "9000-12-31T23:59:59-23:59"])
async def test_a_moment_that_its_zone_takes_out_of_range_is_refused(client: QuartClient, after: str) -> None:
    response = await client.get("/jobs", query_string={"created_after": after})
    assert response.status_code == 422


@pytest.mark.parametrize("port", ["0", "65536", "99999", "9" * 30])
async def test_a_port_that_there_is_not_was_called_back(service: Quart, port: str) -> None:
    for scheme in ("http", "https"):
        response = await service.test_client().post(
            "/jobs", json={"task": "test", "callback_url": f"{scheme}://a.example:{port}/"}
        )
        assert response.status_code == 422
        assert [error["pointer"] for error in (await response.get_json())["errors"]] == ["#/callback_url"]


@each("name", ["a" * 5000, "a/" * 2000, "\0", "a\0.css", "..", "../app.py", "."])
async def test_a_name_that_no_file_has_broke_the_static_files(service: Quart, name: str) -> None:
    assert (await ask(service, "GET", f"/static/{name}")).status == 404


async def test_a_trace_state_that_is_none_is_not_passed_on(service: Quart) -> None:
    for value in (b"\xff", b"a=\x01", b"\xc3\xa4=1"):
        answer = await ask(service, "GET", "/external-api", headers=(TRACE, (b"tracestate", value)))
        assert answer.status == 200


async def test_messages_that_no_parser_expected_are_answered(jobs: QuartClient) -> None:
    job = await started(jobs, "test", delay=60)
    async with jobs.websocket(job["links"]["websocket"] + "?after=" + "9" * 5000) as socket:
        await socket.receive()
        for value in KNOWN:
            if len(value) <= 4096:
                await socket.send(cast("Any", value))
                assert json.loads(await socket.receive())["event"] == "error"
