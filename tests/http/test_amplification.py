"""No request makes the service say more, or work longer, than its own length is worth."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_core import from_json, to_json
from quart import Quart

from quart_async_api import Settings, create_app
from quart_async_api.http.contract.nesting import LEVELS
from quart_async_api.http.contract.operations import ATTRIBUTE
from quart_async_api.tasks import TaskContext, task
from tests.unit.test_validation import WRONG, Everything

from .asgi import Answer, ask

JSON = ((b"content-type", b"application/json"),)
FORM = ((b"content-type", b"application/x-www-form-urlencoded"),)
MANY = 5_000


@task("author")
async def author(
    ctx: TaskContext, *, value: Everything | None = None, num: list[int] | None = None, anything: Any = None
) -> int:
    """Take whatever an author may ask for."""
    return 1


BODIES = {
    "a list of wrong items": {"callback_events": ["x"] * MANY, "num": ["x"] * MANY},
    "unknown members": {str(number): 0 for number in range(MANY)},
    "a task's wrong items": {"task": "author", "args": {"num": ["x"] * MANY}},
    "a task's unknown members": {"task": "author", "args": {str(number): 0 for number in range(MANY)}},
    "a long text": {"task": "x" * MANY * 5, "name": "x" * MANY * 5, "email": "x" * MANY * 5, "key": "x" * MANY * 5},
    "lists in a list": [[]] * MANY,
    "lists in a member": {"args": [[[]] * LEVELS] * (MANY // LEVELS), "name": [[]] * MANY},
    **{f"a task's {name}": {"task": "author", "args": {"value": wrong()}} for name, wrong in WRONG.items()},
}


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Quart]:
    app = create_app(settings, tasks=[author])
    async with app.test_app():
        yield app


def routes(app: Quart) -> list[tuple[str, str]]:
    """Each route that takes a body, whether it reads it or not: method and path."""
    found = []
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for argument in rule.arguments:
            path = (
                path.replace(f"<{argument}>", "1").replace(f"<job:{argument}>", "1").replace(f"<path:{argument}>", "1")
            )
        changing = (rule.methods or set()) & {"POST", "PATCH", "PUT", "DELETE"}
        found += [(method, path) for method in sorted(changing) if not rule.websocket]
    return found


async def measured(app: Quart, method: str, path: str, headers: Any, body: bytes) -> tuple[Answer, float]:
    """The answer, and the least seconds of the loop that it took."""
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        answer = await ask(app, method, path, headers=headers, body=body)
        best = min(best, time.process_time() - started)
    return answer, best


def parsing(length: int) -> float:
    """Seconds to parse JSON of this length, the least that a body can cost."""
    body = b"[" + b'{"a":1},' * (length // 8) + b"1]"
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        from_json(body)
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.slow
async def test_a_small_request_made_a_large_answer_and_held_up_the_loop(service: Quart) -> None:
    asked = routes(service)
    assert {("POST", "/jobs"), ("POST", "/add-user"), ("POST", "/sign-in"), ("PATCH", "/user/1")} <= set(asked)
    idle = {route: (await measured(service, *route, JSON, b"{}"))[1] for route in asked}
    for name, sent in BODIES.items():
        body = to_json(sent)
        for method, path in asked:
            if "a task's" in name and path != "/jobs":
                continue
            answer, seconds = await measured(service, method, path, JSON, body)
            assert 0 < answer.status < 500, (name, path)
            assert len(answer.body) < 100_000 + len(body), (name, path)
            assert seconds < 5 * idle[method, path] + 40 * parsing(len(body)), (name, path)
            if answer.status == 422 and not path.startswith("/console/"):
                assert 1 <= len(json.loads(answer.body)["errors"]) <= 100


async def test_a_query_of_repeated_parameters_made_a_large_answer(service: Quart) -> None:
    views = {
        rule.rule
        for rule in service.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and getattr(service.view_functions[rule.endpoint], ATTRIBUTE, None)
    }
    for path in sorted(
        path for path in views if "<" not in path and path not in ("/jobs/events", "/console/pulse", "/gather")
    ):
        for query in (b"&".join([b"num=x"] * 1300), b"a&" * 4000, b"&".join([b"callback_events=x"] * 400)):
            answer = await ask(service, "GET", path, query)
            if answer.status == 422 and not path.startswith("/console/"):
                assert len(answer.body) < 20_000
                assert len(json.loads(answer.body)["errors"]) <= 100


@pytest.mark.parametrize(
    ("headers", "body"),
    [(JSON, b"[" + b"[]," * 2000 + b"1]"), (FORM, b"a&" * 3000), (FORM, b"key=" + b"x" * 5000), ((), b"x" * 5000)],
)
async def test_signing_in_parsed_a_megabyte_for_who_has_no_key(service: Quart, headers: Any, body: bytes) -> None:
    answer = await ask(service, "POST", "/sign-in", headers=headers, body=body)
    assert answer.status == 413
    assert json.loads(answer.body)["type"] == "/problems/content-too-large"


@pytest.mark.parametrize(
    ("value", "pointer"),
    [('{"value": {"ratio": 1e400}}', "#/args/value/ratio"), ('{"anything": [1e400]}', "#/args")],
)
async def test_a_number_too_large_was_stored_as_null_and_failed_later(service: Quart, value: str, pointer: str) -> None:
    body = f'{{"task": "author", "args": {value}}}'.encode()
    answer = await ask(service, "POST", "/jobs", headers=JSON, body=body)
    assert answer.status == 422
    assert [error["pointer"] for error in json.loads(answer.body)["errors"]] == [pointer]
