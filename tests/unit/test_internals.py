"""A tripwire for each private part of a library that ours builds on: look at ours again where one changed.

Those of Hypercorn are in test_hypercorn_internals.py.
"""

import ast
import hashlib
import importlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiosqlite
import pytest
import tortoise.backends.base.client as base
import tortoise.backends.base_postgres.client as postgres
import tortoise.backends.psycopg.client as psycopg
import tortoise.backends.sqlite.client as sqlite
from pydantic_core import SchemaValidator
from quart import Quart, Request, Response
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.ctx import AppContext, RequestContext
from quart.json.provider import JSONProvider
from quart.routing import QuartMap
from quart.sessions import SecureCookieSessionInterface
from quart.wrappers import BaseRequestWebsocket
from quart.wrappers.request import Body
from quart.wrappers.response import DataBody
from tortoise.apps import Apps
from tortoise.backends.base.executor import BaseExecutor
from tortoise.context import TortoiseContext, get_current_context
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.recorder import MigrationRecorder
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter, Rule
from werkzeug.sansio.request import Request as SansIORequest
from werkzeug.sansio.response import Response as SansIOResponse

import quart_async_api
from quart_async_api.db import safe_psycopg, safe_sqlite
from quart_async_api.db.tortoise_internals import SafeClient, SafeTransaction

KNOWN: dict[Any, tuple[str, str]] = {
    Apps._discover_models: ("db/tortoise_internals.py", "e845de2cbdd585d6"),
    Quart.startup: ("app.py", "45d9305cc5b980be"),
    Quart.shutdown: ("app.py", "d681ee6ba769e0b1"),
    ASGIWebsocketConnection: ("http/guards/bounds.py", "13f96f7be8574360"),
    ASGIHTTPConnection: ("http/quart_connection.py", "6065b18f7c6ef8b5"),
    Body: ("http/quart_request.py", "c93c37f778fda649"),
    Request.__init__: ("http/quart_request.py", "41f10612a334b46d"),
    BaseRequestWebsocket.__init__: ("http/quart_request.py", "b27dce778ced76e0"),
    SansIORequest.__init__: ("http/quart_request.py", "7a942473eba0b406"),
    DataBody: ("http/quart_connection.py", "a0ec2d3712622730"),
    Headers.get: ("http/quart_request.py", "090076cdf314aab6"),
    Response.__init__: ("http/json.py", "63e7a1384a2b76ef"),
    SansIOResponse.__init__: ("http/json.py", "0d32fd6f20d5767a"),
    JSONProvider.response: ("http/json.py", "c084f98a14942a60"),
    MapAdapter.match: ("http/quart_dispatch.py", "d60987ae51086935"),
    Rule.compile: ("http/quart_dispatch.py", "96edc39424f37ba3"),
    Rule._compile_builder: ("http/quart_dispatch.py", "a0ec55cf067ff5d5"),
    Quart.handle_request: ("http/quart_dispatch.py", "18090631bd6a616f"),
    Quart.ensure_async: ("http/quart_dispatch.py", "4beeb64991943852"),
    Quart.full_dispatch_request: ("http/quart_dispatch.py", "de88165a13cbaed5"),
    Quart.preprocess_request: ("http/quart_dispatch.py", "5ccc5f15b6e60068"),
    Quart.process_response: ("http/quart_dispatch.py", "6ea0b610010c8975"),
    Quart.finalize_request: ("http/quart_dispatch.py", "2fb6962cb2259df9"),
    RequestContext: ("http/quart_dispatch.py", "a75cd38f3091a3d9"),
    AppContext: ("http/quart_dispatch.py", "c03b6309a78f1af7"),
    Quart.do_teardown_request: ("http/quart_dispatch.py", "9f60f04ee6213f75"),
    Quart.do_teardown_appcontext: ("http/quart_dispatch.py", "e2cc7362ff4a8234"),
    QuartMap.bind_to_request: ("http/quart_dispatch.py", "ed58772ab72eac5c"),
    SecureCookieSessionInterface.open_session: ("http/quart_dispatch.py", "2ad402652d465af0"),
    base.BaseDBAsyncClient: ("db/tortoise_internals.py", "23343eae29398fd1"),
    BaseExecutor.__init__: ("db/tortoise_internals.py", "d47455973393195b"),
    base.ConnectionWrapper: ("db/tortoise_internals.py", "6f4d75b65a714bda"),
    base.NestedTransactionContext: ("db/tortoise_internals.py", "8ed4156ae68da844"),
    base.PoolConnectionWrapper: ("db/tortoise_internals.py", "8ee1d63e1d3811f8"),
    TortoiseContext: ("db/tortoise_internals.py", "88e29924ba299373"),
    get_current_context: ("db/tortoise_internals.py", "cb8fc4079c01c978"),
    sqlite.SqliteClient: ("db/safe_sqlite.py", "ae56179556a5d963"),
    sqlite.SqliteTransactionWrapper: ("db/safe_sqlite.py", "5b73d8440546ae44"),
    sqlite.translate_exceptions: ("db/safe_sqlite.py", "2a236e6f25a7487a"),
    aiosqlite.Connection: ("db/safe_sqlite.py", "648644bef40ab600"),
    postgres.BasePostgresClient: ("db/safe_psycopg.py", "6bc554a7cb288440"),
    postgres.translate_exceptions: ("db/safe_psycopg.py", "b3d67116e62fdddc"),
    psycopg.AsyncConnectionPool: ("db/safe_psycopg.py", "6a1cf50933d49396"),
    psycopg.PsycopgClient: ("db/safe_psycopg.py", "f4b89daaa049acbd"),
    psycopg.TransactionWrapper: ("db/safe_psycopg.py", "bb64129415e770df"),
    MigrationExecutor: ("db/migration.py", "746774fd6903f55a"),
    MigrationLoader.load_disk: ("db/migration.py", "091d042a87e28555"),
    MigrationRecorder: ("db/migration.py", "9f996900327c2743"),
}

ROOT = Path(quart_async_api.__file__).parent
HOMES = {
    "db/migration.py",
    "db/safe_psycopg.py",
    "db/safe_sqlite.py",
    "db/tortoise_internals.py",
    "http/json.py",
    "http/quart_connection.py",
    "http/quart_dispatch.py",
    "http/quart_request.py",
    "server/hypercorn_http2.py",
    "server/hypercorn_internals.py",
    "server/hypercorn_websockets.py",
    "validation.py",
}
DOCUMENTED = {"_current_frames", "_exit", "_get_current_object", "_replace"}  # of sys, os, werkzeug and namedtuples


def _private(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith("_") and not name.startswith("__")} - DOCUMENTED


def _inside(kind: type) -> set[str]:
    """The private names of the classes of libraries that `kind` is made from."""
    found = set()
    for parent in kind.__mro__[:-1]:
        if not parent.__module__.startswith("quart_async_api"):
            found |= _private(vars(parent))
            for part in vars(parent).values():
                found |= _private(getattr(getattr(part, "__code__", None), "co_names", ()))
    return found


def _uses(file: Path) -> Iterator[str]:
    """The private parts of libraries that a file uses, of other objects and of the classes that its own are made from."""
    module = importlib.import_module(".".join(("quart_async_api", *file.relative_to(ROOT).with_suffix("").parts)))
    tree = ast.parse(file.read_text())
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            own.add(node.attr)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from _private(name.name for name in node.names)
        elif isinstance(node, ast.Attribute):
            yield from _private({node.attr}) - own
        elif isinstance(node, ast.ClassDef) and (kind := getattr(module, node.name, None)) is not None:
            defined = {part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
            yield from _inside(kind) & (
                defined | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            )
        elif isinstance(node, ast.keyword):
            yield from _private({node.arg or ""})


@pytest.mark.parametrize("part", KNOWN, ids=lambda part: f"{part.__module__}.{part.__qualname__}")
def test_what_ours_builds_on_is_as_it_was(part: Any) -> None:
    file, digest = KNOWN[part]
    found = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]
    assert found == digest, f"{part.__module__}.{part.__qualname__} has changed: compare src/quart_async_api/{file}"


@pytest.mark.parametrize("engine", [safe_sqlite, safe_psycopg], ids=lambda engine: engine.__name__)
def test_ours_stands_before_the_class_of_the_driver(engine: Any) -> None:
    for ours, shared in ((engine.Client, SafeClient), (engine._Transaction, SafeTransaction)):
        line = ours.__mro__
        assert line.index(shared) < next(
            place for place, part in enumerate(line) if "tortoise.backends" in part.__module__
        )


def test_aiohttp_connects_as_our_connector_expects() -> None:
    assert list(inspect.signature(aiohttp.TCPConnector.connect).parameters) == ["self", "req", "traces", "timeout"]


def test_pydantic_takes_a_schema_that_was_changed() -> None:
    """`_use_prebuilt` keeps it from taking the validator of a class, which has no bounds, for the schema of that class."""
    assert "_use_prebuilt" in inspect.signature(SchemaValidator).parameters


def test_private_parts_of_libraries_are_used_in_their_files_alone() -> None:
    files = {
        str(file.relative_to(ROOT)): file
        for file in ROOT.rglob("*.py")
        if file.stem not in ("__init__", "__main__", "asgi")
    }
    used = {name: sorted(set(_uses(file))) for name, file in files.items()}
    assert {name: uses for name, uses in used.items() if uses and name not in HOMES} == {}
    assert all(used[name] for name in HOMES)
