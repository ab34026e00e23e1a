"""What Quart documents of a request happens in the service's app as it does in Quart's own, in the same order."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest
from quart import (
    Blueprint,
    Quart,
    after_this_request,
    g,
    has_request_context,
    redirect,
    request,
    session,
    signals,
    url_for,
)
from werkzeug.routing import BuildError

from quart_async_api.http.quart_dispatch import LeanQuart

if TYPE_CHECKING:
    from quart.testing import QuartClient

PATHS = [
    "/",
    "/plain",
    "/group/inner/7",
    "/group/inner/7?x=1",
    "/fails",
    "/handled",
    "/missing",
    "/group",
    "/count",
    "/away",
]


def _registered(app: Quart, trace: list[str]) -> None:
    """Register everything that there is to register."""

    def note(name: str) -> Callable[..., Any]:
        async def told(*values: Any) -> Any:
            trace.append(f"{name} {request.endpoint if has_request_context() else ''}")
            return values[0] if name.startswith("after") else None

        return told

    outer, inner = Blueprint("outer", __name__, url_prefix="/group"), Blueprint("inner", __name__, url_prefix="/inner")
    for place, name in ((app, "app"), (outer, "outer"), (inner, "inner")):
        place.before_request(note(f"before {name}"))
        place.after_request(note(f"after {name}"))
        place.teardown_request(note(f"teardown {name}"))

        def values(endpoint: str | None, arguments: dict[str, Any] | None, name: str = name) -> None:
            trace.append(f"values {name} {arguments}")

        place.url_value_preprocessor(values)
    app.teardown_appcontext(note("teardown context"))

    @app.before_request
    def plain() -> None:
        trace.append("a plain function")

    @app.get("/")
    async def index() -> tuple[str, int, dict[str, str]]:
        @after_this_request
        def own(response: Any) -> Any:
            trace.append("after this request")
            return response

        return "index", 201, {"X-Own": "1"}

    @app.get("/plain")
    def plain_view() -> dict[str, int]:
        g.seen = 1
        return {"seen": g.seen}

    @inner.get("/<int:number>")
    async def inner_view(number: int) -> list[Any]:
        return [number, request.blueprints, request.args.get("x"), request.host]

    @app.get("/group/")
    async def group() -> str:
        return ""

    @app.get("/fails")
    async def fails() -> NoReturn:
        raise KeyError("unexpected")

    @app.get("/handled")
    async def handled() -> NoReturn:
        raise LookupError("expected")

    @app.errorhandler(LookupError)
    def answer(error: LookupError) -> tuple[str, int]:
        trace.append(f"handler {type(error).__name__}")
        return "handled", 409 if type(error) is LookupError else 500

    @app.get("/count")
    async def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    @app.get("/away")
    async def away() -> Any:
        return redirect("/")

    outer.register_blueprint(inner)
    app.register_blueprint(outer)


async def _traced(kind: type[Quart], *, key: str | None, signalled: bool, registers: bool = True) -> list[Any]:
    trace: list[Any] = []
    app = kind(__name__)
    app.secret_key = key
    app.config["PROPAGATE_EXCEPTIONS"] = False
    receivers = []
    if registers:
        _registered(app, trace)
    if signalled:
        for name in (
            "appcontext_pushed",
            "appcontext_popped",
            "appcontext_tearing_down",
            "got_request_exception",
            "request_started",
            "request_finished",
            "request_tearing_down",
        ):

            async def receive(sender: Any, name: str = name, **values: Any) -> None:
                trace.append(f"signal {name} {sorted(values)}")

            receivers.append(receive)  # signals hold them weakly
            getattr(signals, name).connect(receive, app)
    client = cast("QuartClient", app.test_client())
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for path in PATHS:
            response = await client.open(path, method=method)
            trace.append((method, path, response.status_code, await response.get_data(), sorted(response.headers)))
    return trace


@pytest.mark.parametrize("key", [None, "a secret of this test"])
@pytest.mark.parametrize("signalled", [False, True])
@pytest.mark.parametrize("registers", [False, True])
async def test_what_is_registered_happens_as_in_quart_itself(
    key: str | None, signalled: bool, registers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("itsdangerous.TimestampSigner.get_timestamp", lambda signer: 1_700_000_000)
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    quarts = await _traced(Quart, key=key, signalled=signalled, registers=registers)
    ours = await _traced(LeanQuart, key=key, signalled=signalled, registers=registers)
    assert ours == quarts


async def test_a_host_means_the_same_at_its_second_request() -> None:
    for settings in ({}, {"SERVER_NAME": "example.com"}):
        found = []
        for kind in (Quart, LeanQuart):
            app = kind(__name__)
            app.config.update(settings)

            @app.get("/")
            async def index() -> str:
                return request.url_root

            @app.get("/", subdomain="api")
            async def api() -> str:
                return f"api {request.url_root}"

            client = app.test_client()
            for host in ("example.com", "EXAMPLE.com:80", "api.example.com", "example.com:8000") * 2:
                with warnings.catch_warnings(action="ignore"):  # of a name that is not the server's
                    response = await client.get("/", headers={"Host": host})
                found.append((kind, host, response.status_code, await response.get_data()))
        half = len(found) // 2
        assert [each[1:] for each in found[:half]] == [each[1:] for each in found[half:]]


async def test_urls_are_built_as_in_quart_itself() -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("index", {}),
        ("page", {}),
        ("page", {"number": 1}),
        ("page", {"number": 7, "q": "a b", "rule": "x"}),
        ("file", {"of": "a/b", "rule": "ü"}),
        ("api", {"_external": True, "_anchor": "x", "_scheme": "https"}),
        ("page", {"number": "no number"}),
        ("missing", {}),
    ]
    found: list[list[str]] = []
    for kind in (Quart, LeanQuart):
        app = kind(__name__)
        app.config["SERVER_NAME"] = "example.com"
        app.add_url_rule("/", "index", lambda: "")
        app.add_url_rule("/page/", "page", lambda: "", defaults={"number": 1})
        app.add_url_rule("/page/<int:number>", "page")
        app.add_url_rule("/<path:of>/in/<rule>", "file", lambda: "")
        app.add_url_rule("/api", "api", lambda: "", subdomain="api")
        built = []
        async with app.app_context():
            for endpoint, values in asked * 2:
                try:
                    built.append(url_for(endpoint, **values))
                except (BuildError, ValueError) as error:
                    built.append(type(error).__name__)
        found.append(built)
    assert found[0] == found[1]
    assert "/page/7?q=a+b&rule=x" in found[1][3]
