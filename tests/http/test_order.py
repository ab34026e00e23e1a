"""What each route needs, said on the route; and the order of the guards, which each request passes once."""

import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from quart import Quart
from quart.views import MethodView, View

from quart_async_api import Settings, create_app, tutorial
from quart_async_api.access.caller import Scope
from quart_async_api.http.contract.needs import DELIVERED, SAFE_METHODS, needs, said_by
from quart_async_api.http.delivery.delivers import delivers
from quart_async_api.http.guards import order
from quart_async_api.http.guards.access import state
from quart_async_api.http.guards.hosts import AllowedHosts
from quart_async_api.http.parts import parts_of
from tests.secrets import secret

from .asgi import ask

BEFORE = [
    "check_head",
    "drop_bad_dates",
    "check",  # the Host
    "is_preflight",
    "authenticate",
    "check_scope",
    "refuse_cross_site",
    "count",
    "read_body",
]
KEYS = {"reader": [Scope.READ], "writer": [Scope.READ, Scope.WRITE]}
AFTER = ["tell_limits", "allow_origin", "audit", "add_headers", "challenge"]


def test_every_route_says_what_it_needs() -> None:
    app = create_app(Settings())
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            view = app.view_functions[rule.endpoint]
            said = said_by(view, method)
            assert said is not None, f"{method} {rule.rule} says nothing"
            by_method = hasattr(view, DELIVERED)  # a route of a task: its scope is that of its method
            assert said.open or said.scope is not None or by_method, f"{method} {rule.rule} names no scope"
            is_change = method not in SAFE_METHODS
            assert not is_change or said.scope is not Scope.READ, f"{method} {rule.rule} changes something by `read`"
            assert not is_change or said.audited, f"{method} {rule.rule} has no name in the audit log"


async def test_a_request_passes_each_guard_once_and_in_the_order_written_down(
    app: Quart, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []

    def noted(name: str, guard: Callable[..., Any]) -> Callable[..., Any]:
        def note(*args: Any, **kwargs: Any) -> Any:
            passed.append(name)
            return guard(*args, **kwargs)

        return note

    modules = [module for name, module in sys.modules.items() if name.startswith("quart_async_api.http.")]
    for name in {*BEFORE, *AFTER} - {"check"}:
        guard = cast("Callable[..., Any]", getattr(order, name))
        for module in modules:  # delivery may not pass a guard again
            if vars(module).get(name) is guard:
                monkeypatch.setattr(module, name, noted(name, guard))
    monkeypatch.setattr(AllowedHosts, "check", noted("check", AllowedHosts.check))

    submit = cast("Callable[[], Awaitable[Any]]", app.view_functions["jobs.submit"])

    async def route() -> Any:
        passed.append("the route")
        return await submit()

    monkeypatch.setitem(app.view_functions, "jobs.submit", route)
    answer = await ask(
        app, "POST", "/jobs", body=b'{"task": "test"}', headers=((b"content-type", b"application/json"),)
    )
    assert answer.status == 202
    assert passed == [*BEFORE, "the route", *AFTER]


def test_no_guard_is_missing_from_the_order_that_is_tested() -> None:
    found = {
        name
        for name, each in vars(order).items()
        if inspect.isfunction(each) and each.__module__.startswith("quart_async_api.http.guards.")
    }
    no_guards = {"bound_address", "guard", "is_navigation", "_of_another_method", "_to_sign_in"}
    assert found - no_guards == {*BEFORE, *AFTER} - {"check", "drop_bad_dates"}


async def test_a_route_that_says_nothing_is_guarded_in_full(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "quart_async_api.audit")
    app = create_app(settings.model_copy(update={"rate_limit": "4/hour"}))

    @app.route("/mine", methods=["GET", "POST"])
    async def mine() -> str:
        return ""

    @app.get("/everyones")
    @needs(open=True, limited=False)
    async def everyones() -> str:
        return ""

    async with app.test_app():
        client = app.test_client()
        made = [await parts_of(app).keys.create(name, scopes) for name, scopes in KEYS.items()]
        read, write = ({"Authorization": f"Bearer {secret(text)}"} for _, text in made)
        assert (await client.get("/mine")).status_code == 401
        assert (await client.get("/mine", headers=read)).status_code == 200
        assert (await client.post("/mine", headers=read)).status_code == 403
        assert (await client.post("/mine", headers=write | {"Sec-Fetch-Site": "cross-site"})).status_code == 403
        assert (await client.post("/mine", headers=write)).status_code == 200
        assert [vars(record)["action"] for record in caplog.records if "POST" in record.message] == ["POST mine"]
        answers = [(await client.get("/mine", headers=read)).status_code for _ in range(4)]
        assert answers[-1] == 429
        for _ in range(5):
            assert (await client.get("/everyones")).status_code == 200


async def test_an_open_route_gave_a_caller_without_a_key_the_rights_of_an_administrator(settings: Settings) -> None:
    app = create_app(settings)

    @app.get("/open")
    @needs(open=True)
    async def opened() -> dict[str, Any]:
        who = state().caller
        return {"scopes": sorted(who.scopes), "sees": who.sees}

    async with app.test_app():
        for make_key in (False, True):
            if make_key:
                secret((await parts_of(app).keys.create("made"))[1])
                await parts_of(app).key_ring.keys()
            answer = await app.test_client().get("/open")
            assert await answer.get_json() == {"scopes": [], "sees": ""}
        assert "RateLimit" in answer.headers  # as on any route, once keys are made


async def test_a_need_that_was_said_of_a_class_or_of_its_view_was_lost(settings: Settings) -> None:
    app = create_app(settings)

    only_admins = needs(Scope.ADMIN)

    class OfDecorators(MethodView):
        decorators = [only_admins]  # noqa: RUF012 - as Quart documents it

        async def get(self) -> str:
            return ""

    class OfClass(MethodView):
        async def get(self) -> str:
            return ""

    class OfDispatch(View):
        @only_admins
        async def dispatch_request(self, **_: Any) -> str:
            return ""

    for number, view in enumerate((OfDecorators, only_admins(OfClass), OfDispatch)):
        app.add_url_rule(f"/{number}", view_func=view.as_view(f"view{number}"))
    async with app.test_app():
        reader = secret((await parts_of(app).keys.create("reader", [Scope.READ]))[1])
        for number in range(3):
            answer = await app.test_client().get(f"/{number}", headers={"Authorization": f"Bearer {reader}"})
            assert answer.status_code == 403


def test_a_need_that_cannot_be_meant_is_refused_where_it_is_written() -> None:
    async def view() -> str:
        return ""

    with pytest.raises(TypeError, match="parentheses"):
        needs(view)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="admn"):
        needs("admn")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="twice"):
        needs(audited="change")(needs(Scope.ADMIN)(view))


def test_a_route_that_starts_jobs_cannot_be_open(settings: Settings) -> None:
    app = create_app(settings)

    @needs(open=True)
    @delivers(tutorial.test)
    async def opened(result: Any) -> None:
        """Open."""

    with pytest.raises(ValueError, match="cannot be open"):
        app.add_url_rule("/opened", view_func=opened)


async def test_a_method_that_an_open_path_does_not_have_was_a_401(settings: Settings) -> None:
    app = create_app(settings)
    async with app.test_app():
        await parts_of(app).keys.create("made")
        for path in ("/health/live", "/sign-in", "/problems/"):
            answer = await app.test_client().delete(path)
            assert answer.status_code == 405
            assert "GET" in answer.headers["Allow"]
        for path in ("/jobs", "/jobs/01a20016-4ef3-740d-8264-8bc30937ddd3/ws", "/nowhere", "/user/1/"):
            for method in ("PUT", "TRACE", "QUERY"):
                assert (await ask(app, method, path)).status == 401, (path, method)
