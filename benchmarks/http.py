"""Part `http`: requests a second on four routes, of this service on its servers and of the frameworks beside it."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .figures import Measures, Part
from .load import Request, measured, tool, warm_up
from .machine import Guard
from .rounds import Turn, alternate
from .servers import CannotStart, Running, Server, make_databases, started

OURS, LOGGED = "ours on Hypercorn", "ours on Hypercorn, log and limits on"
OURS_UVICORN, OURS_GRANIAN = "ours on uvicorn", "ours on granian"
FASTAPI, BLACKSHEEP = "FastAPI on uvicorn", "BlackSheep on uvicorn"
BARE_UVICORN, BARE_HYPERCORN = "bare ASGI on uvicorn", "bare ASGI on Hypercorn"
QUART_HYPERCORN = "plain Quart on Hypercorn"
CONSTANT, USER, USERS, ADD = "constant", "GET /user/1", "GET /users", "POST /add-user"

_UVICORN = ("--port", "PORT", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
_ON_UVICORN = "uvloop, httptools, one process, access log off"
_ON_HYPERCORN = "uvloop, one process, access log off"
_APP = "quart_async_api.asgi:app"


def _uvicorn(name: str, app: str, settings: str) -> Server:
    return Server(name, f"{_ON_UVICORN}; {settings}", ("uvicorn", app, *_UVICORN), env="http")


def _hypercorn(name: str, app: str, settings: str) -> Server:
    command = ("hypercorn", "--worker-class", "uvloop", "--bind", "127.0.0.1:PORT", app)
    return Server(name, f"{_ON_HYPERCORN}; {settings}", command, env="http")


def _ours(name: str, settings: str, command: tuple[str, ...], environ: dict[str, str] | None = None) -> Server:
    # More users than QAA_MAX_USERS allows are added in a run; they are counted all the same.
    return Server(name, settings, command, "ours", "/health/live", {"QAA_MAX_USERS": "900000000"} | (environ or {}))


SERVE = ("quart_async_api", "serve", "--bind", "127.0.0.1:PORT")
_LOGGED = {"QAA_LOG_LEVEL": "info", "QAA_RATE_LIMIT": "900000000/second"}
_GRANIAN = ("--interface", "asgi", "--loop", "uvloop", "--http", "1", "--log-level", "warning", "--port", "PORT")
QUICK = (
    _ours(OURS, "`quart-async-api serve`, its defaults with the log at warning", SERVE),
    _ours(LOGGED, "the same with the log at info, to a file, and a rate limit that nobody reaches", SERVE, _LOGGED),
    _ours(OURS_UVICORN, f"{_ON_UVICORN}; log at warning", ("uvicorn", _APP, *_UVICORN)),
    _ours(OURS_GRANIAN, "uvloop, HTTP/1, one worker; log at warning", ("granian", *_GRANIAN, _APP)),
    _uvicorn(FASTAPI, "fastapi_app:app", "responses of ready bytes by orjson, no OpenAPI"),
    _uvicorn(BLACKSHEEP, "blacksheep_app:app", "responses of ready bytes by orjson"),
    _uvicorn(BARE_UVICORN, "bare_asgi:app", "no framework: one answer"),
    _hypercorn(BARE_HYPERCORN, "bare_asgi:app", "no framework: one answer"),
)
SERVERS = (
    *QUICK,
    _ours("ours, QAA_HTTP1=hypercorn", "the same with Hypercorn's own HTTP/1.1", SERVE, {"QAA_HTTP1": "hypercorn"}),
    _uvicorn("Litestar on uvicorn", "litestar_app:app", "ready bytes by orjson, msgspec, no OpenAPI, no logging"),
    _uvicorn("plain Quart on uvicorn", "quart_app:app", "responses of ready bytes by orjson"),
    _hypercorn(QUART_HYPERCORN, "quart_app:app", "responses of ready bytes by orjson"),
    Server(
        "the tutorials' Flask",
        "gunicorn with three sync workers; a new event loop and Tortoise.init for each request",
        ("gunicorn", "--workers", "3", "--bind", "127.0.0.1:PORT", "flask_app:app"),
        env="http",
    ),
)
LIMITS = [BARE_UVICORN, BARE_HYPERCORN]

_NEW_USER = '{"name": "Ada Lovelace", "email": "ada{n}@example.com"}'
ROUTES = {
    USER: Request("/user/1"),
    USERS: Request("/users"),
    ADD: Request("/add-user", "POST", _NEW_USER, {"Content-Type": "application/json"}),
}
ROWS = (CONSTANT, *ROUTES)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a turn takes, and how many rounds."""

    seconds: float
    rounds: int
    spare: int  # turns that may be repeated


FULL, SHORT = Pace(1, 5, 60), Pace(1, 5, 6)


def request(server: Server, row: str) -> Request:
    return Request(server.ready) if row == CONSTANT else ROUTES[row]


def measure(
    servers: tuple[Server, ...] = SERVERS,
    pace: Pace = FULL,
    rows: tuple[str, ...] = ROWS,
    short: bool = False,
    say: Callable[[str], None] = print,
) -> Part:
    part = Part(
        "http",
        "Requests a second",
        f"{tool()}; {pace.rounds} rounds of {pace.seconds:g} s. Databases of 1,000 users on SQLite with WAL and "
        "`synchronous=FULL`, in all of them; `GET /users` returns 100.",
        base=FASTAPI,
        settings={server.name: server.shown for server in servers},
        limits=[name for name in LIMITS if name in {server.name for server in servers}],
    )
    guard = Guard(pace.spare)
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        make_databases(folder)
        running: dict[Server, Running] = {}
        for server in servers:
            try:
                running[server] = stack.enter_context(started(server, folder))
            except CannotStart as error:
                part.missing[server.name] = str(error)
            say(f"{server.name}: {part.missing.get(server.name, 'started')}")
        for row in rows:
            meet = {server: there for server, there in running.items() if _meets(row, server.name, short)}
            bare = next((there for server, there in running.items() if server.name == BARE_UVICORN), None)
            part.rows[row] = _row(row, meet, bare, pace, guard, part.missing)
            for contender in part.rows[row]:
                found = part.spread(row, contender)
                say(f"{row:16}{contender:40}{found.median if found else 0:10,.0f}/s")
    return part.finish(guard)


def _row(
    row: str, meet: dict[Server, Running], bare: Running | None, pace: Pace, guard: Guard, missing: dict[str, str]
) -> dict[str, Measures]:
    turns: dict[str, Turn] = {}
    failed: dict[str, str] = {}
    for server, there in meet.items():
        turns[server.name] = partial(measured, there, request(server, row), pace.seconds)
        warm_up(there, request(server, row), min(0.3, pace.seconds))
    reference = partial(_pace, bare, pace.seconds) if bare else lambda: 1.0
    rows = alternate(turns, pace.rounds, guard, failed, reference)
    missing |= {f"{name}, {row}": why for name, why in failed.items()}
    return rows


def _meets(row: str, name: str, short: bool) -> bool:
    """A limit has one route only. In the short run, our other servers meet what they have goals for."""
    if name in LIMITS:
        return row == CONSTANT
    return not short or row in (USER, USERS) or name not in (OURS_UVICORN, OURS_GRANIAN)


def _pace(server: Running, seconds: float) -> float:
    return measured(server, Request("/constant"), seconds)["requests/s"]
