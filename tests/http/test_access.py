"""Keys, scopes, sessions and tickets: who gets in, what each may do, and whose jobs it sees."""

import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from link_checker import report
from link_checker import tasks as link_checker_tasks
from quart import Quart, Response
from quart.testing import QuartClient
from quart.testing.connections import WebsocketDisconnectError, WebsocketResponseError

from quart_async_api import Settings, create_app
from quart_async_api.access.caller import ANYONE, Scope
from quart_async_api.access.keys import Key, KeyStore, digest
from quart_async_api.access.tokens import AccessTokens
from quart_async_api.db.connection import Database
from quart_async_api.db.group_commit import Unit
from quart_async_api.errors import DatabaseUnavailable
from quart_async_api.http.parts import parts_of
from quart_async_api.moments import later
from quart_async_api.services.limits import Policy
from quart_async_api.services.refusals import Refusals
from quart_async_api.services.submissions import Callback, Options
from tests.each import each
from tests.secrets import secret

from . import job_tasks
from .conftest import Document, ended, pass_time, read_events, started

REMOTE = {"server": ("192.0.2.1", 80)}
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"
OPEN = ("/health/", "/problems", "/static/", "/console/inbox/")

Make = Callable[..., Awaitable[str]]


@pytest.fixture(autouse=True)
def _all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "quart_async_api")


@pytest.fixture
def app(job_app: Quart) -> Quart:
    return job_app


@pytest.fixture
def client(app: Quart) -> QuartClient:
    return cast("QuartClient", app.test_client())


def store_of(app: Quart) -> KeyStore:
    return parts_of(app).keys


@pytest.fixture
def make(app: Quart) -> Make:
    """Makes a key; its text."""

    async def make(name: str = "alice", *scopes: Scope, lifetime: float | None = None) -> str:
        return secret((await store_of(app).create(name, scopes, lifetime))[1])

    return make


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class Signed(QuartClient):
    """A client that brings a key."""

    key = ""

    async def _make_request(self, path: str, method: str, headers: Any, *args: Any) -> Response:
        return await super()._make_request(path, method, {**bearer(self.key), **(headers or {})}, *args)


def signed(app: Quart, key: str) -> Signed:
    made = Signed(app)
    made.key = key
    return made


async def refused_socket(client: QuartClient, path: str, headers: dict[str, str] | None = None) -> Response:
    async with client.websocket(path, headers=headers) as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    return refused.value.response


# Every route


def walked(app: Quart) -> list[tuple[str, str, bool]]:
    """Method, path and whether it is a WebSocket's, of every rule; parameters filled in with what is unknown."""
    found: list[tuple[str, str, bool]] = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*job_id>", UNKNOWN, rule.rule)
        path = re.sub(r"<[^>]*>", "1", path)
        methods = sorted((rule.methods or set()) - {"OPTIONS"})
        found.extend((method, path, bool(rule.websocket)) for method in methods)
    return found


async def test_every_route_wants_a_key_but_for_the_open_ones(settings: Settings) -> None:
    changed = settings.model_copy(update={"refusal_limit": "off"})
    app = create_app(changed, tasks=[job_tasks, link_checker_tasks])
    job_tasks.add_routes(app)
    app.register_blueprint(report.blueprint)
    app.add_url_rule("/of-the-future/<it>", "future", lambda it: it, methods=["GET", "POST", "PUT", "DELETE"])
    app.add_websocket("/of-the-future/socket", "future_socket", lambda: None)
    async with app.test_app():
        _, text = await store_of(app).create("anyone", [Scope.ADMIN])
        key = secret(text)
        client = cast("QuartClient", app.test_client())
        seen = 0
        for method, path, is_socket in walked(app):
            if path.startswith(OPEN) or path == "/sign-in":
                continue
            seen += 1
            if is_socket:
                response = await refused_socket(client, path)
            else:
                response = await client.open(path, method=method)
            assert response.status_code == 401, (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
            if method != "HEAD":
                assert (await response.get_json(force=True))["type"] == "/problems/unauthorized"
            if not is_socket and path not in ("/jobs/events", "/console/pulse", "/external-api", "/comic"):
                answered = await client.open(path, method=method, headers=bearer(key))
                assert answered.status_code not in (401, 403), (method, path)
        assert seen > 30
        for path in (
            "/health/live",
            "/health/ready",
            "/problems/",
            "/problems/unauthorized",
            "/static/style.css",
            "/sign-in",
        ):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/nowhere", "//jobs", "/jobs/", "/Health/live", "/static"):
            assert (await client.get(path)).status_code == 401, path
        assert (await client.get("/nowhere", headers=bearer(key))).status_code == 404


@pytest.mark.parametrize("origins", [(), ("https://app.example",)])
async def test_without_a_key_options_tells_no_routes_apart(settings: Settings, origins: tuple[str, ...]) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": origins, "refusal_limit": "off"}))
    async with app.test_app():
        key = secret((await store_of(app).create("anyone"))[1])
        client = cast("QuartClient", app.test_client())
        preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
        heard = set()
        paths = sorted({path for _, path, _ in walked(app)} | {"/nowhere", "/jobs/", "//", "/jobs/1/ws"})
        for path in paths:
            response = await client.options(path, headers=preflight)
            assert response.status_code == 204, path
            fields = {name: value for name, value in response.headers.items() if name.lower() != "ratelimit"}
            fields.pop("x-request-id", None)
            heard.add((response.status_code, await response.get_data(), tuple(sorted(fields.items()))))
            if not (path.startswith(OPEN) or path == "/sign-in"):
                assert (await client.options(path)).status_code == 401, path
        [(status, body, told)] = heard
        assert (status, body) == (204, b"")
        assert ("access-control-allow-methods" in dict(told)) is bool(origins)
        assert (await client.options("/jobs", headers=bearer(key))).status_code == 200
        assert (await client.options("/nowhere", headers=bearer(key))).status_code == 404


async def test_a_preflight_names_every_method_that_a_route_takes(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://app.example",)}))
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    response = await app.test_client().options("/", headers=preflight)
    named = set(response.headers["Access-Control-Allow-Methods"].split(", "))
    assert named == {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}


async def test_without_a_key_made_it_is_open_on_loopback_alone(app: Quart, make: Make) -> None:
    client = cast("QuartClient", app.test_client())
    headers = {"Host": "192.0.2.1"}
    assert (await client.get("/users")).status_code == 200
    response = await client.get("/users", headers=headers, scope_base=REMOTE)
    assert response.status_code == 403
    assert "keys create" in (await response.get_json())["detail"]
    key = await make()
    assert (await client.get("/users")).status_code == 401
    assert (await client.get("/users", headers=headers, scope_base=REMOTE)).status_code == 401
    assert (await client.get("/users", headers=headers | bearer(key), scope_base=REMOTE)).status_code == 200


async def test_anonymous_callers_are_allowed_only_while_no_key_is_made(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"allow_anonymous": True}))
    async with app.test_app():
        client = app.test_client()
        assert (await client.get("/users", headers={"Host": "192.0.2.1"}, scope_base=REMOTE)).status_code == 200
        secret((await store_of(app).create("first"))[1])
        assert (await client.get("/users", headers={"Host": "192.0.2.1"}, scope_base=REMOTE)).status_code == 401
        assert (await client.get("/users")).status_code == 401


async def test_a_revoked_key_is_refused_at_once_and_the_service_stays_closed(
    app: Quart, client: QuartClient, make: Make
) -> None:
    key = await make("only")
    assert (await client.get("/users", headers=bearer(key))).status_code == 200
    await store_of(app).revoke("only")
    response = await client.get("/users", headers=bearer(key))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert (await client.get("/users")).status_code == 401


async def test_an_expired_key_is_refused(app: Quart, client: QuartClient, make: Make) -> None:
    key = await make("brief", lifetime=60)
    assert (await client.get("/users", headers=bearer(key))).status_code == 200
    pass_time(app, days=1)
    assert (await client.get("/users", headers=bearer(key))).status_code == 401
    assert (await client.get("/users")).status_code == 401


@pytest.mark.parametrize(
    "how", ["", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x", "Bearer {other}", "Bearer é"]
)
async def test_what_is_no_key_is_refused(client: QuartClient, make: Make, how: str) -> None:
    key = await make()
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    response = await client.get("/users", headers={"Authorization": how.format(key=key, other=other)})
    assert response.status_code == 401
    assert key not in await response.get_data(as_text=True)
    assert (await client.get("/users", headers={"Authorization": f"bEARER  {key}"})).status_code == 200


async def test_a_mistyped_key_is_told_without_the_database(
    app: Quart, client: QuartClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make()

    async def read(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(KeyStore, "version", read)
    for place in (4, 10, 17, 30, len(key) - 1):
        wrong = "b" if key[place] == "a" else "a"
        mistyped = key[:place] + wrong + key[place + 1 :]
        for wrong_key in (mistyped, key[:place] + key[place + 1 :], key + wrong):
            response = await client.get("/users", headers=bearer(wrong_key))
            assert response.status_code == 401
            assert "mistyped" in (await response.get_json())["detail"]
            assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_a_key_from_before_the_checksum_still_works(app: Quart, client: QuartClient, make: Make) -> None:
    await make("older")
    found = await store_of(app).find("older")
    old = secret(f"qaa_{found.id}_{'-_9aZ' * 8}xyz")
    await alter_keys(app, "UPDATE api_keys SET digest = ?, version = version + 1", digest(old))
    assert (await client.get("/users", headers=bearer(old))).status_code == 200
    assert (await client.get("/users", headers=bearer(old[:-1] + "Q"))).status_code == 401


@pytest.mark.parametrize("end", ["revoked", "expired", "signed out", "a first key is made", "made a reader"])
async def test_a_socket_whose_key_has_ended_cancels_nothing(
    app: Quart, client: QuartClient, make: Make, end: str
) -> None:
    if end == "a first key is made":
        opened = {}
        job = await started(client, "test", delay=60)
    else:
        alice = signed(app, await make("alice"))
        opened = bearer(alice.key)
        job = await started(alice, "test", delay=60)
    if end == "signed out":
        opened = {"Cookie": f"qaa_session={session_of(await sign_in(client, alice.key))}"}
    async with client.websocket(job["links"]["websocket"], headers=opened) as socket:
        assert (await socket.receive_json())["event"] == "snapshot"
        if end == "revoked":
            await store_of(app).revoke("alice")
        elif end == "expired":
            await alter_keys(
                app,
                "UPDATE api_keys SET expires_at = ?, version = version + 1",
                parts_of(app).now(),
            )
        elif end == "signed out":
            assert (await client.post("/sign-out", headers=opened)).status_code == 303
        elif end == "a first key is made":
            await make("first")
        else:
            await alter_keys(app, "UPDATE api_keys SET scopes = ?, version = version + 1", "read")
        await socket.send_json({"type": "cancel"})
        if end == "made a reader":
            told = await socket.receive_json()
            assert (told["event"], "write" in told["data"]["detail"]) == ("error", True)
        else:
            assert (await _closed_in_the_end(socket))[0] == 3000
    assert (await parts_of(app).store.reading.get(job["id"], None)).status == "queued"


async def alter_keys(app: Quart, sql: str, value: str) -> None:
    def unit() -> Unit[None]:
        yield (sql, (value,))

    await parts_of(app).commits.run(unit)


async def test_a_page_of_a_named_origin_opens_a_socket_by_a_ticket_alone(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://app.example",)}))
    async with app.test_app():
        key = secret((await store_of(app).create("page"))[1])
        client = cast("QuartClient", app.test_client())
        job = await started(signed(app, key), "test")
        path, origin = job["links"]["websocket"], {"Origin": "https://app.example"}
        async with client.websocket(f"{path}?ticket={await ticket_of(client, key)}", headers=origin) as socket:
            assert (await socket.receive_json())["event"] == "snapshot"
        other = {"Origin": "https://evil.example"}
        assert (await refused_socket(client, f"{path}?ticket={await ticket_of(client, key)}", other)).status_code == 403
        session = session_of(await sign_in(client, key))
        assert (await refused_socket(client, path, origin | {"Cookie": f"qaa_session={session}"})).status_code == 403


async def _closed_in_the_end(socket: Any) -> tuple[int, ...]:
    while True:
        try:
            await socket.receive()
        except WebsocketDisconnectError as closed:
            return cast("tuple[int, ...]", closed.args)


# Scopes


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [
        ((Scope.READ,), True, False),
        ((Scope.WRITE,), False, True),
        ((), True, True),
        ((Scope.ADMIN,), True, True),
    ],
)
async def test_a_scope_is_asked_for(
    app: Quart, client: QuartClient, make: Make, scopes: tuple[Scope, ...], reads: bool, writes: bool
) -> None:
    key = bearer(await make("scoped", *scopes))
    streamed = key | {"Accept": "text/event-stream"}
    come_back = key | {"Prefer": "respond-async"}
    calls = [
        (reads, await client.get("/users", headers=key)),
        (reads, await client.get("/test", headers=key)),
        (reads and writes, await client.get("/start-task", headers=key)),
        (reads and writes, await client.get("/test", headers=come_back)),
        (reads and writes, await client.get("/test?callback_url=https://127.0.0.1/", headers=key)),
        (reads and writes, await client.get("/test", headers=streamed)),
        (writes, await client.post("/start-task", headers=key)),
        (writes, await client.post("/jobs", headers=key, json={"task": "test"})),
        (writes, await client.post("/add-user", headers=key, json={"name": "a", "email": "a@example.com"})),
        (True, await client.post("/tickets", headers=key)),
    ]
    for may, response in calls:
        if may:
            assert response.status_code < 300 or response.status_code == 422, await response.get_data()
        else:
            assert response.status_code == 403
            assert (await response.get_json())["type"] == "/problems/insufficient-scope"
            missing = "read" if not reads else "write"
            assert response.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{missing}"'
    jobs = await parts_of(app).store.reading.page(100, None)
    assert bool(jobs) == writes


async def test_who_may_only_read_cannot_cancel_over_a_socket(app: Quart, client: QuartClient, make: Make) -> None:
    reader = bearer(await make("reader", Scope.READ))
    job = await parts_of(app).submissions.submit(
        parts_of(app).tasks["held"],
        parts_of(app).submissions.arguments(parts_of(app).tasks["held"], {"name": "unread"}),
        caller=(await store_of(app).find("reader")).caller,
    )
    async with client.websocket(f"/jobs/{job.id}/ws", headers=reader) as socket:
        assert (await socket.receive_json())["event"] == "snapshot"
        await socket.send_json({"type": "cancel"})
        while (told := await socket.receive_json())["event"] != "error":
            pass
        assert "write" in told["data"]["detail"]
    assert (await parts_of(app).store.reading.get(job.id, None)).cancel_requested_at is None


# Whose job it is


async def test_the_job_of_another_key_is_as_one_that_never_was(app: Quart, client: QuartClient, make: Make) -> None:
    alice, bob, root = signed(app, await make("alice")), bearer(await make("bob")), bearer(await make("r", Scope.ADMIN))
    job = await ended(alice, await started(alice, "test"))
    running = await started(alice, "held", args={"name": "hidden"})
    for rule in app.url_map.iter_rules():
        if "job_id" not in rule.rule:
            continue
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            for job_id in (job["id"], running["id"]):
                theirs, nobodys = (
                    re.sub(r"<[^>]*>", "msg_1", re.sub(r"<[^>]*job_id>", known, rule.rule))
                    for known in (job_id, UNKNOWN)
                )
                if rule.websocket:
                    async with client.websocket(theirs, headers=bob) as socket:
                        closed = await _closed(socket)
                    async with client.websocket(nobodys, headers=bob) as socket:
                        assert await _closed(socket) == closed
                    assert closed[0] == 4404
                    continue
                first = await client.open(theirs, method=method, headers=bob)
                second = await client.open(nobodys, method=method, headers=bob)
                assert first.status_code == second.status_code == 404, rule
                assert _but_for_its_own(await first.get_json(), theirs) == _but_for_its_own(
                    await second.get_json(), nobodys
                )
                assert _names(first) == _names(second)
                if method == "GET" and rule.endpoint in ("jobs.read", "jobs.result", "callbacks.list_callbacks"):
                    assert (await client.get(theirs, headers=root)).status_code in (200, 202)
    assert (await parts_of(app).store.reading.get(running["id"], None)).cancel_requested_at is None


def _but_for_its_own(problem: Document, path: str) -> Document:
    assert problem.pop("instance") == path
    problem.pop("request_id")
    return problem


def _names(response: Response) -> set[str]:
    return set(response.headers.keys())


async def _closed(socket: Any) -> tuple[int, ...]:
    with pytest.raises(WebsocketDisconnectError) as closed:
        await socket.receive()
    return cast("tuple[int, ...]", closed.value.args)


async def test_lists_streams_replays_and_tombstones_show_nothing_of_others(
    app: Quart, client: QuartClient, make: Make
) -> None:
    alice, bob, root = (
        signed(app, await make("alice")),
        signed(app, await make("bob")),
        signed(app, await make("r", Scope.ADMIN)),
    )
    job = await ended(alice, await started(alice, "test"))
    assert (await (await bob.get("/jobs")).get_json())["items"] == []
    assert [each["id"] for each in (await (await root.get("/jobs")).get_json())["items"]] == [job["id"]]
    key = {"Idempotency-Key": "same"}
    first = await (await alice.post("/start-task", headers=key)).get_json()
    second = await bob.post("/start-task", headers=key)
    assert "Idempotent-Replayed" not in second.headers
    assert (await second.get_json())["job"]["id"] != first["job"]["id"]
    await ended(bob, (await second.get_json())["job"])  # its events come before those that are watched below
    # A Last-Event-ID of another's job starts one's own.
    resumed = await bob.get("/test", headers={"Accept": "text/event-stream", "Last-Event-ID": f"{job['id']}:1"})
    told = read_events(await resumed.get_data(as_text=True))
    assert {event.id.partition(":")[0] for event in told} & {job["id"]} == set()
    assert told[0].name == "snapshot"
    async with bob.request("/jobs/events", headers=bearer(bob.key)) as stream:
        await stream.send_complete()
        await ended(alice, await started(alice, "test"))
        mine = await ended(bob, await started(bob, "test"))
        text = ""
        while "succeeded" not in text:
            text += (await stream.receive()).decode()
        await stream.disconnect()
    assert {event.data["job_id"] for event in read_events(text)} == {mine["id"]}
    store = parts_of(app).store
    await store.retention.expire(later(job["finished_at"], 10 * 365 * 86_400), 60 * 86_400)
    assert (await alice.get(f"/jobs/{job['id']}")).status_code == 410
    assert (await root.get(f"/jobs/{job['id']}")).status_code == 410
    gone, never = await bob.get(f"/jobs/{job['id']}"), await bob.get(f"/jobs/{UNKNOWN}")
    assert gone.status_code == never.status_code == 404
    assert (await gone.get_json())["detail"] == (await never.get_json())["detail"]


async def test_jobs_from_before_the_first_key_are_the_admins(app: Quart, client: QuartClient, make: Make) -> None:
    job = await ended(client, await started(client, "test"))
    key, root = bearer(await make("later")), bearer(await make("root", Scope.ADMIN))
    assert (await client.get(job["links"]["self"], headers=key)).status_code == 404
    assert (await client.get(job["links"]["self"], headers=root)).status_code == 200


async def test_the_traceback_of_an_attempt_is_for_admins_alone(app: Quart, make: Make) -> None:
    alice, root = signed(app, await make("alice")), signed(app, await make("root", Scope.ADMIN))
    job = await ended(alice, await started(alice, "raises"))
    assert "traceback" not in job["attempts"][0]
    [attempt] = (await (await root.get(job["links"]["self"])).get_json())["attempts"]
    assert attempt["traceback"].startswith("Traceback")


async def test_an_admins_retry_leaves_the_job_to_its_owner(
    app: Quart, client: QuartClient, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    alice, root = signed(app, await make("alice")), signed(app, await make("root", Scope.ADMIN))
    service = parts_of(app)
    task = service.tasks["raises"]
    submitted = await service.submissions.submit(
        task,
        service.submissions.arguments(task, {}),
        Options(callback=Callback("https://nowhere.invalid/", ("job.failed",))),
        caller=(await store_of(app).find("alice")).caller,
    )
    job = await ended(alice, submitted.document())
    response = await root.post(job["links"]["self"] + "/retry", headers={"Idempotency-Key": "once"})
    assert response.status_code == 202
    again = await ended(alice, await response.get_json())
    assert again["links"]["retry_of"].endswith(job["id"])
    replayed = await root.post(job["links"]["self"] + "/retry", headers={"Idempotency-Key": "once"})
    assert (await replayed.get_json())["id"] == again["id"]
    by_the_command_line = await parts_of(app).submissions.retry(job["id"])
    owner = (await store_of(app).find("alice")).id
    rows = await parts_of(app).database.read("SELECT owner FROM jobs")
    called = await parts_of(app).database.read("SELECT owner FROM callback_deliveries")
    assert {row["owner"] for row in (*rows, *called)} == {owner}
    assert (await client.get(f"/jobs/{by_the_command_line.id}", headers=bearer(alice.key))).status_code == 200
    [line] = [vars(record) for record in caplog.records if vars(record).get("action") == "job.retry"]
    assert (line["key_name"], line["target"]) == ("root", job["id"])


# Signing in


def session_of(response: Response) -> str:
    match = re.match(r"(?:__Host-)?qaa_session=([^;]+); ", response.headers["Set-Cookie"])
    assert match
    return secret(match[1])


async def sign_in(client: QuartClient, key: str, query: str = "") -> Response:
    return await client.post(f"/sign-in{query}", form={"key": key})


async def test_a_key_becomes_a_session_until_signing_out(app: Quart, make: Make) -> None:
    browser = cast("QuartClient", app.test_client())
    key = await make()
    assert (await browser.get("/", headers=PAGE)).status_code == 303
    response = await sign_in(browser, key)
    cookie = response.headers["Set-Cookie"]
    token = session_of(response)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert {"HttpOnly", "Path=/", "SameSite=Strict", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    page = await (await browser.get("/", headers=PAGE)).get_data(as_text=True)
    assert "alice" in page
    assert "Sign out" in page
    rows = await parts_of(app).database.read("SELECT * FROM access_tokens")
    assert token not in json.dumps(rows)
    assert (await browser.post("/start-task")).status_code == 202
    out = await browser.post("/sign-out")
    assert out.headers["Clear-Site-Data"] == '"cache", "storage"'  # pages and calls of this key
    assert (out.status_code, out.headers["Location"]) == (303, "/sign-in")
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    with_old = {"Cookie": f"qaa_session={token}"}
    assert (await app.test_client(use_cookies=False).get("/users", headers=with_old)).status_code == 401


async def test_a_session_ends_with_its_key_or_its_time(app: Quart, make: Make) -> None:
    for end in ("revoke", "time"):
        browser = cast("QuartClient", app.test_client())
        session_of(await sign_in(browser, await make(end)))
        assert (await browser.get("/users")).status_code == 200
        if end == "revoke":
            await store_of(app).revoke(end)
        else:
            pass_time(app, days=1)
        assert (await browser.get("/users")).status_code == 401


async def test_over_https_no_other_host_can_set_the_cookie(app: Quart, make: Make) -> None:
    client = cast("QuartClient", app.test_client(use_cookies=False))
    response = await client.post("/sign-in", form={"key": await make()}, scheme="https")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-qaa_session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    token = session_of(response)
    for name, scheme, status in (
        ("__Host-qaa_session", "https", 200),
        ("qaa_session", "https", 401),  # which a page of plain http, or of a subdomain, could have set
        ("__Host-qaa_session", "http", 401),
    ):
        sent = {"Cookie": f"{name}={token}"}
        assert (await client.get("/users", headers=sent, scheme=scheme)).status_code == status, (name, scheme)
    out = await client.post("/sign-out", headers={"Cookie": f"__Host-qaa_session={token}"}, scheme="https")
    assert out.headers["Set-Cookie"].startswith("__Host-qaa_session=;")
    assert "Secure" in out.headers["Set-Cookie"]


async def test_an_earlier_bogus_cookie_signs_nobody_out(app: Quart, make: Make) -> None:
    client = cast("QuartClient", app.test_client(use_cookies=False))
    key = await make()
    first, second = session_of(await sign_in(client, key)), session_of(await sign_in(client, key))
    for before in ("x", "A" * 43, "; ".join(f"qaa_session={number:043}" for number in range(200)), '""', ""):
        sent = {"Cookie": f"qaa_session={before}; qaa_session={first}; qaa_session={second}"}
        assert (await client.get("/users", headers=sent)).status_code == 200, before
    assert (await client.post("/sign-out", headers=sent)).status_code == 303
    for token in (first, second):
        assert (await client.get("/users", headers={"Cookie": f"qaa_session={token}"})).status_code == 401


@pytest.mark.parametrize("value", ["", "max-age=31536000; includeSubDomains"])
async def test_browsers_are_held_to_https_on_wish_and_by_https_alone(settings: Settings, value: str) -> None:
    app = create_app(settings.model_copy(update={"strict_transport_security": value}))
    async with app.test_app():
        client = app.test_client()
        for path in ("/users", "/nowhere", "/static/style.css"):
            by_https = await client.get(path, scheme="https")
            assert by_https.headers.get("Strict-Transport-Security", "") == value
            assert "Strict-Transport-Security" not in (await client.get(path)).headers


async def test_a_wrong_key_gets_the_form_again_and_a_program_a_problem(client: QuartClient, make: Make) -> None:
    key = await make()
    response = await sign_in(client, key + "x", "?next=/docs")
    assert response.status_code == 401
    assert response.mimetype == "text/html"
    text = await response.get_data(as_text=True)
    assert "The key is mistyped" in text
    assert 'action="/sign-in?next=/docs"' in text
    assert key not in text
    assert "Set-Cookie" not in response.headers
    unknown = await sign_in(client, "nonsense")
    assert "The key is unknown, revoked or expired" in await unknown.get_data(as_text=True)
    as_json = await client.post("/sign-in", json={"key": "nonsense"})
    assert as_json.status_code == 401
    assert as_json.mimetype == "application/problem+json"
    good = await client.post("/sign-in", json={"key": key})
    assert good.status_code == 303
    session_of(good)


async def test_a_browser_is_sent_to_sign_in_and_back(client: QuartClient, make: Make) -> None:
    key = await make()
    response = await client.get("/docs?a=b&c", headers=PAGE)
    assert response.status_code == 303
    target = urlsplit(response.headers["Location"])
    assert target.path == "/sign-in"
    assert parse_qs(target.query) == {"next": ["/docs?a=b&c"]}
    back = await sign_in(client, key, f"?{target.query}")
    session_of(back)
    assert back.headers["Location"] == "/docs?a=b&c"
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, PAGE | bearer("wrong")):
        assert (await client.get("/docs", headers=headers | {"Cookie": ""})).status_code in (200, 401)


@pytest.mark.parametrize(("path", "page"), [("/console/users", "/console/users"), ("/sign-out/x", "/")])
async def test_a_form_sent_after_the_session_has_ended_leads_to_its_page_and_says_so(
    client: QuartClient, make: Make, path: str, page: str
) -> None:
    await make()
    response = await client.post(path, form={"name": "Ada"}, headers=PAGE | {"Sec-Fetch-Mode": "navigate"})
    target = response.headers["Location"]
    assert (response.status_code, parse_qs(urlsplit(target).query)["next"]) == (303, [page])
    text = await (await client.get(target)).get_data(as_text=True)
    assert "You are not signed in, and the form was not accepted: sign in, then send it again." in text


@pytest.mark.parametrize(
    "bad",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil", "evil",
     "javascript:alert(1)", "", " /", "/a\\b", "/a b", "/é"],
)  # fmt: skip
async def test_signing_in_leads_nowhere_else(client: QuartClient, make: Make, bad: str) -> None:
    response = await sign_in(client, await make(), f"?next={quote(bad)}")
    session_of(response)
    assert response.headers["Location"] == "/"


# Tickets


async def ticket_of(client: QuartClient, key: str) -> str:
    response = await client.post("/tickets", headers=bearer(key))
    assert response.status_code == 201
    document = await response.get_json()
    assert set(document) == {"ticket", "expires_at"}
    return secret(document["ticket"])


async def test_a_ticket_opens_one_stream_once(app: Quart, client: QuartClient, make: Make) -> None:
    key = await make()
    alice = signed(app, key)
    job = await ended(alice, await started(alice, "test"))
    ticket = await ticket_of(client, key)
    path = f"/jobs/{job['id']}/events?ticket={ticket}"
    assert (await client.get(path)).status_code == 200
    again = await client.get(path)
    assert again.status_code == 401
    assert again.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    task = await client.get(f"/test?ticket={await ticket_of(client, key)}", headers={"Accept": "text/event-stream"})
    assert task.status_code == 200
    assert task.mimetype == "text/event-stream"


async def test_a_ticket_opens_one_socket_once(app: Quart, client: QuartClient, make: Make) -> None:
    key = await make()
    job = await started(signed(app, key), "test")
    path = f"/jobs/{job['id']}/ws?ticket={await ticket_of(client, key)}"
    async with client.websocket(path) as socket:
        assert (await socket.receive_json())["event"] == "snapshot"
    assert (await refused_socket(client, path)).status_code == 401


async def test_a_ticket_is_good_for_nothing_else_and_not_for_long(app: Quart, client: QuartClient, make: Make) -> None:
    key = await make()
    streamed = {"Accept": "text/event-stream"}
    for method, path, headers in (
        ("GET", "/users", {}),
        ("GET", "/users", streamed),
        ("GET", "/test", {}),
        ("GET", f"/jobs/{UNKNOWN}", streamed),
        ("POST", "/start-task", streamed),
        ("POST", "/tickets", {}),
        ("HEAD", "/test", streamed),
    ):
        ticket = await ticket_of(client, key)
        assert (await client.open(f"{path}?ticket={ticket}", method=method, headers=headers)).status_code == 401, path
    ticket = await ticket_of(client, key)
    assert (await client.get("/users", headers=bearer(ticket))).status_code == 401
    assert (await client.get("/users", headers={"Cookie": f"qaa_session={ticket}"})).status_code == 401
    pass_time(app, days=1)
    assert (await client.get(f"/jobs/events?ticket={ticket}")).status_code == 401
    await parts_of(app).access_tokens.forget(parts_of(app).now())
    assert await parts_of(app).database.read("SELECT * FROM access_tokens") == []


async def test_the_ticket_of_a_revoked_key_opens_nothing(app: Quart, client: QuartClient, make: Make) -> None:
    ticket = await ticket_of(client, await make("gone"))
    await store_of(app).revoke("gone")
    assert (await client.get(f"/jobs/events?ticket={ticket}")).status_code == 401


# Other sites


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[::1"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
async def test_no_page_of_another_site_uses_the_session(app: Quart, make: Make, headers: dict[str, str]) -> None:
    browser = cast("QuartClient", app.test_client())
    key = await make()
    assert (await browser.post("/sign-in", form={"key": key}, headers=headers)).status_code == 403
    session_of(await sign_in(browser, key))
    job = await started(browser, "held", args={"name": "csrf"})
    before = len(await parts_of(app).store.reading.page(100, None))
    for method, path, extra in (
        ("POST", "/start-task", {}),
        ("GET", "/start-task", {}),
        ("GET", "/test", {"Accept": "text/event-stream"}),
        ("GET", "/test?callback_url=https://127.0.0.1/", {}),
        ("POST", "/sign-out", {}),
        ("POST", "/tickets", {}),
        ("DELETE", f"/jobs/{job['id']}", {}),
    ):
        assert (await browser.open(path, method=method, headers=headers | extra)).status_code == 403, (method, path)
    assert (await refused_socket(browser, f"/jobs/{job['id']}/ws", headers)).status_code == 403
    assert len(await parts_of(app).store.reading.page(100, None)) == before
    assert (await browser.get("/users")).status_code == 200


@each(
    ("origin", "host"),
    [
        ("http://localhost", "localhost"),
        ("http://localhost:80", "localhost"),
        ("http://localhost", "localhost:80"),
        ("http://LOCALHOST:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
async def test_the_same_origin_is_the_same_however_it_is_written(client: QuartClient, origin: str, host: str) -> None:
    response = await client.post("/start-task", headers={"Origin": origin, "Host": host})
    assert response.status_code == 202


# What is written down


async def test_each_change_is_one_line_of_the_audit_log(
    app: Quart, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    client = signed(app, await make("auditor"))
    audited = [record for record in caplog.records if record.name == "quart_async_api.audit"]
    caplog.clear()
    job = await started(client, "held", args={"name": "audited-argument"})
    await client.delete(f"/jobs/{job['id']}")
    cancelled = await ended(client, job)
    retried = await client.post(f"/jobs/{job['id']}/retry")
    await client.delete((await retried.get_json())["links"]["self"])
    await client.post("/add-user", json={"name": "Ada", "email": "ada@example.com"})
    await client.patch("/user/1", json={"name": "Eve"})
    await client.delete("/user/1")
    await client.get("/test", headers={"Accept": "text/event-stream"})
    await client.get("/raises", headers={"Prefer": "respond-async, wait=30"})
    await client.get("/users")
    await client.get("/test")
    await client.post("/add-user", json={"name": "Ada"})
    session_of(await client.post("/sign-in", json={"key": client.key}))
    audited = [record for record in caplog.records if record.name == "quart_async_api.audit"]
    assert cancelled["status"] == "cancelled"
    found = [(vars(record)["action"], vars(record)["key_name"]) for record in audited]
    assert [action for action, _ in found] == [
        "job.submit", "job.cancel", "job.retry", "job.cancel", "user.create", "user.update", "user.delete", "job.submit",
        *(["job.submit"] if "/raises" in {rule.rule for rule in app.url_map.iter_rules()} else []),
        "session.create",
    ]  # fmt: skip
    assert {name for _, name in found} == {"auditor"}
    assert vars(audited[0])["target"] == job["id"]
    assert vars(audited[4])["target"] == vars(audited[5])["target"] == "1"
    assert all(vars(record)["request_id"] for record in audited)
    assert "audited-argument" not in caplog.text
    assert "ada@example.com" not in "".join(str(vars(record)) for record in audited)


async def test_the_request_log_names_the_key_and_never_the_ticket(
    app: Quart, client: QuartClient, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    key = await make()
    await client.get("/users", headers=bearer(key))
    await client.get(f"/jobs/{UNKNOWN}/events?ticket={await ticket_of(client, key)}")
    lines = [record for record in caplog.records if record.name == "quart_async_api.request"]
    assert {vars(record).get("key") for record in lines} == {(await store_of(app).find("alice")).id}
    assert "ticket=" not in caplog.text


async def test_the_last_use_is_kept_and_changes_nothing_else(app: Quart, client: QuartClient, make: Make) -> None:
    key = await make()
    store = store_of(app)
    version = await store.version()
    for _ in range(3):
        await client.get("/users", headers=bearer(key))
    found: Key = await store.find("alice")
    while found.last_used_at is None:
        found = await store.find("alice")
    assert found.last_used_at > found.created_at
    assert await store.version() == version


async def test_a_database_that_is_gone_opens_nothing(
    app: Quart, client: QuartClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make()
    assert (await client.get("/test", headers=bearer(key))).status_code == 200

    async def gone(*_: object) -> None:
        raise DatabaseUnavailable("the database was removed or replaced")

    monkeypatch.setattr(KeyStore, "version", gone)
    for headers in ({}, bearer(key)):
        assert (await client.get("/test", headers=headers)).status_code == 503
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/static/style.css")).status_code == 200


async def test_only_digests_are_kept(app: Quart, make: Make) -> None:
    key = await make()
    assert key.rpartition("_")[2] not in json.dumps(await parts_of(app).database.read("SELECT * FROM api_keys"))
    assert isinstance(parts_of(app).access_tokens, AccessTokens)
    assert isinstance(parts_of(app).database, Database)


# What is refused


def refusals_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if vars(record).get("action") == "access.refuse"]


async def test_refused_requests_are_limited_by_address_and_lock_no_right_key_out(
    app: Quart, client: QuartClient, make: Make
) -> None:
    key, reader = await make(), await make("reader", Scope.READ)
    session = {"Cookie": f"qaa_session={session_of(await sign_in(client, key))}"}
    here: dict[str, Any] = {"scope_base": {"client": ("2001:db8::1", 1)}}
    there: dict[str, Any] = {"scope_base": {"client": ("2001:db8:0:1::1", 1)}}
    client = cast("QuartClient", app.test_client(use_cookies=False))
    tries: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/users", {}, 401),
        ("GET", "/users", {"headers": bearer("wrong")}, 401),
        ("GET", "/", {"headers": PAGE | {"Cookie": f"qaa_session={'A' * 43}"}}, 303),
        ("POST", "/sign-in", {"form": {"key": "wrong"}}, 401),
        ("POST", "/start-task", {"headers": bearer(reader)}, 403),
    ]
    for number in range(20):
        method, path, more, status = tries[number % 5]
        response = await client.open(path, method=method, **more, **here)
        assert response.status_code == status, path
        assert f'"refusals";r={19 - number};t=' in response.headers["RateLimit"]
    for method, path, more, _ in tries:
        response = await client.open(path, method=method, **more, **here)
        assert response.status_code == 429, path
        assert (await response.get_json())["violated-policies"] == ["refusals"]
        assert int(response.headers["Retry-After"]) > 0
        assert "Set-Cookie" not in response.headers
    for headers in (bearer(key), session):
        assert (await client.get("/users", headers=headers, **here)).status_code == 200
    assert (await client.post("/sign-in", form={"key": key}, **here)).status_code == 303
    assert (await client.get("/", headers=PAGE, **here)).status_code == 303  # nothing was tried
    assert (await client.get("/users", **there)).status_code == 401


async def test_what_is_refused_is_audited_by_address_and_does_not_flood_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings)
    async with app.test_app():
        reader = secret((await store_of(app).create("reader", [Scope.READ]))[1])
        client = cast("QuartClient", app.test_client(use_cookies=False))
        await client.get("/users?ticket=not-told", headers=bearer("wrong-key"))
        await client.post("/sign-in", form={"key": "wrong-key"})
        for _ in range(50):
            await client.post("/start-task", headers=bearer(reader), scope_base={"client": ("192.0.2.7", 1)})
        first, second = refusals_of(caplog)
        assert (first["target"], first["refused"], first["key"]) == ("GET users.list_users", {"401": 1}, None)
        assert (second["address"], second["key_name"], second["refused"]) == ("192.0.2.7", "reader", {"403": 1})
        assert second["request_id"]
    summed = {line["address"]: line["refused"] for line in refusals_of(caplog)[2:]}
    assert summed == {first["address"]: {"401": 2}, "192.0.2.7": {"403": 50}}
    told = "".join(str(line) for line in refusals_of(caplog))
    assert "wrong-key" not in told
    assert "not-told" not in told


async def test_refusals_of_more_addresses_than_are_remembered_are_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quart_async_api.services.refusals._MOST_ADDRESSES", 3)
    refusals = Refusals(Policy(20, 60))
    for number in range(10):
        refusals.count(f"192.0.2.{number}", 401, ANYONE, "GET", "id")
    refusals.close()
    assert len(refusals_of(caplog)) == 5
    assert refusals_of(caplog)[-1]["refused"] == {"401": 7}
