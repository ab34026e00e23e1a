"""A tripwire for each private part of Tortoise and aiosqlite that db/ builds on: look at ours again where one changed."""

import hashlib
import inspect
from typing import Any

import aiosqlite
import pytest
import tortoise.backends.base.client as base
import tortoise.backends.base_postgres.client as postgres
import tortoise.backends.psycopg.client as psycopg
import tortoise.backends.sqlite.client as sqlite
from tortoise.context import TortoiseContext, get_current_context
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.recorder import MigrationRecorder

from quart_async_api.db import safe_psycopg, safe_sqlite
from quart_async_api.db.tortoise_internals import SafeClient, SafeTransaction

KNOWN: dict[Any, tuple[str, str]] = {
    base.BaseDBAsyncClient: ("tortoise_internals.py", "23343eae29398fd1"),
    base.ConnectionWrapper: ("tortoise_internals.py", "6f4d75b65a714bda"),
    base.NestedTransactionContext: ("tortoise_internals.py", "8ed4156ae68da844"),
    base.PoolConnectionWrapper: ("tortoise_internals.py", "8ee1d63e1d3811f8"),
    TortoiseContext: ("tortoise_internals.py", "88e29924ba299373"),
    get_current_context: ("tortoise_internals.py", "cb8fc4079c01c978"),
    sqlite.SqliteClient: ("safe_sqlite.py", "ae56179556a5d963"),
    sqlite.SqliteTransactionWrapper: ("safe_sqlite.py", "5b73d8440546ae44"),
    sqlite.translate_exceptions: ("safe_sqlite.py", "2a236e6f25a7487a"),
    aiosqlite.Connection: ("safe_sqlite.py", "648644bef40ab600"),
    postgres.BasePostgresClient: ("safe_psycopg.py", "6bc554a7cb288440"),
    postgres.translate_exceptions: ("safe_psycopg.py", "b3d67116e62fdddc"),
    psycopg.AsyncConnectionPool: ("safe_psycopg.py", "6a1cf50933d49396"),
    psycopg.PsycopgClient: ("safe_psycopg.py", "f4b89daaa049acbd"),
    psycopg.TransactionWrapper: ("safe_psycopg.py", "bb64129415e770df"),
    MigrationExecutor: ("migration.py", "746774fd6903f55a"),
    MigrationLoader.load_disk: ("migration.py", "091d042a87e28555"),
    MigrationRecorder: ("migration.py", "9f996900327c2743"),
}


@pytest.mark.parametrize("part", KNOWN, ids=lambda part: f"{part.__module__}.{part.__qualname__}")
def test_what_ours_builds_on_is_as_it_was(part: Any) -> None:
    file, digest = KNOWN[part]
    found = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]
    assert found == digest, f"{part.__module__}.{part.__qualname__} has changed: compare src/quart_async_api/db/{file}"


@pytest.mark.parametrize("engine", [safe_sqlite, safe_psycopg], ids=lambda engine: engine.__name__)
def test_ours_stands_before_the_class_of_the_driver(engine: Any) -> None:
    for ours, shared in ((engine.Client, SafeClient), (engine._Transaction, SafeTransaction)):
        line = ours.__mro__
        assert line.index(shared) < next(
            place for place, part in enumerate(line) if "tortoise.backends" in part.__module__
        )
