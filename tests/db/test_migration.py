"""Migrations: run once whoever runs them, whole or not at all, keep the rows, and give the schema that the models have."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tortoise.context import TortoiseContext
from tortoise.exceptions import OperationalError
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.schema_generator.state import State as Models

from quart_async_api.db.connection import Database
from quart_async_api.db.migration import State, check, state, upgrade
from quart_async_api.db.models import User
from quart_async_api.db.packages import OF_THE_SERVICE, Package
from quart_async_api.db.url import parse
from quart_async_api.errors import DatabaseBehind, DatabaseUnavailable, DatabaseUnusable
from tests.postgresql import MIGRATED, PostgreSQL

from .conftest import NewUrl, started

ROOT = Path(__file__).parents[2]
SYNTHETIC = "tests.db.synthetic_migrations"


def with_migrations(module: str) -> tuple[Package]:
    """The service's models, with other migrations."""
    return (replace(OF_THE_SERVICE, migrations=module),)


async def rows(database: Database, sql: str) -> list[dict[str, object]]:
    return await database.client.execute_query_dict(sql)


@pytest.mark.slow
async def test_a_new_database_is_brought_up_to_date_once_and_has_the_schema_of_the_models(
    new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(file.stem for file in (ROOT / "migrations").glob("0*.py"))
    made: list[object] = []
    make = MigrationExecutor._project_state

    async def made_anew(self: MigrationExecutor, applied: set[MigrationKey], **options: Any) -> Models:
        made.append(applied)
        return await make(self, applied, **options)

    monkeypatch.setattr(MigrationExecutor, "_project_state", made_anew)
    migrated, generated = new_url(), new_url()
    assert await upgrade(migrated) == names
    assert len(made) == 1  # took as long as all the rest
    assert await upgrade(migrated) == []
    config = parse(generated).config()
    for connection in config["connections"].values():
        if parse(generated).file is not None:
            connection["credentials"]["create"] = True
    async with TortoiseContext() as context:
        await context.init(config=config)
        await context.generate_schemas()
    async with started(migrated) as one, started(generated) as other:
        assert await state(one) == State(pending=(), unknown=())
        await check(one)
        assert [row["name"] for row in await rows(one, "SELECT name FROM tortoise_migrations ORDER BY id")] == names
        assert await schema(one) == await schema(other) != []


def test_two_migrations_that_landed_at_once_had_one_number() -> None:
    stems = sorted(file.stem for file in (ROOT / "migrations").glob("0*.py"))
    assert [stem[:4] for stem in stems] == [f"{number:04}" for number in range(1, len(stems) + 1)]
    for before, stem in pairwise(stems):
        text = (ROOT / "migrations" / f"{stem}.py").read_text().replace("'", '"')
        assert f'dependencies = [("quart_async_api", "{before}")]' in text


@pytest.mark.process
async def test_the_models_have_not_run_ahead_of_the_migrations() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "quart_async_api.db.makemigrations", "forgotten", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    for path in output.decode().split():
        os.remove(path)
    assert (process.returncode, output) == (0, b"")


async def schema(database: Database) -> list[dict[str, object]]:
    """Columns, indexes and constraints, without the names that Tortoise makes up."""
    if database.url.dialect == "sqlite":
        return await rows(
            database,
            'SELECT m.name AS t, c.name AS c, c.type, c."notnull", c.dflt_value, c.pk, NULL AS u,'
            " m.sql LIKE '%AUTOINCREMENT%' AS auto"
            " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'tortoise%'"
            " UNION ALL"
            " SELECT m.name, group_concat(c.name), 'index', i.partial, i.origin = 'pk', 0, i.\"unique\", 0"
            " FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) c"
            " WHERE m.type = 'table' AND m.name NOT LIKE 'tortoise%' GROUP BY m.name, i.name"
            " ORDER BY 1, 2, 3",
        )
    return await rows(
        database,
        "SELECT table_name::text AS t, column_name::text AS c, data_type::text, character_maximum_length::text AS length,"
        " is_nullable::text, is_identity::text, CASE column_name WHEN 'txid' THEN '' ELSE column_default END"
        " FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name NOT LIKE 'tortoise%'"
        " UNION ALL"
        " SELECT t.relname::text, pg_get_indexdef(i.indexrelid, 0, true), i.indisunique::text, i.indisprimary::text, '', '', ''"
        " FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace"
        " WHERE n.nspname = 'public' AND t.relname NOT LIKE 'tortoise%'"
        " UNION ALL"
        " SELECT t.relname::text, pg_get_constraintdef(c.oid), c.contype::text, '', '', '', ''"
        " FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace"
        " WHERE n.nspname = 'public' AND t.relname NOT LIKE 'tortoise%'"
        " ORDER BY 1, 2, 3",
    )


async def test_an_id_is_never_given_out_again(database: Database) -> None:
    user = await User.create(name="a", email="a", email_key="a")
    await user.delete()
    assert (await User.create(name="a", email="a", email_key="a")).id > user.id


async def test_altering_a_parent_keeps_the_rows_of_its_children(url: str) -> None:
    applied = await upgrade(url, with_migrations(SYNTHETIC))
    assert applied == ["0001_tables", "0002_rows", "0003_alter_parent"]
    async with started(url) as database:
        assert await rows(database, "SELECT name FROM parent ORDER BY id") == [{"name": "p1"}, {"name": "p2"}]
        assert await rows(database, "SELECT parent_id FROM child ORDER BY id") == [{"parent_id": n} for n in (1, 1, 2)]
        with pytest.raises(OperationalError, match=r"(?i)foreign key"):  # which are on again
            await database.client.execute_query("INSERT INTO child (parent_id) VALUES (99)")


@pytest.mark.parametrize("broken", ["fails_half_way", "leaves_orphans"])
async def test_a_failing_migration_leaves_no_trace_and_those_before_it_stay(
    url: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "leaves_orphans" and url.startswith("postgresql"):
        pytest.skip("PostgreSQL checks at every statement")
    sql = {
        "fails_half_way": "ops.RunSQL(\"INSERT INTO parent (name) VALUES ('half')\"), ops.RunSQL('SELECT nonsense')",
        "leaves_orphans": "ops.RunSQL('DELETE FROM parent')",
    }[broken]
    package = tmp_path / f"history_{broken}_{url[:6]}"
    package.mkdir()
    for file in (ROOT / "tests/db/synthetic_migrations").glob("*.py"):
        (package / file.name).write_text(file.read_text())
    (package / "0004_broken.py").write_text(
        "from tortoise import migrations\nfrom tortoise.migrations import operations as ops\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('quart_async_api', '0003_alter_parent')]\n"
        f"    operations = [{sql}]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"^migration 0004_broken "):
            await upgrade(url, with_migrations(package.name))
    async with started(url) as database:
        assert len(await rows(database, "SELECT * FROM parent")) == 2
        assert len(await rows(database, "SELECT * FROM tortoise_migrations")) == 3


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Package]]:
    """The service's package with the migrations before the one of this number."""

    def older(number: str) -> tuple[Package]:
        package = tmp_path / f"history_before_{number}"
        package.mkdir()
        for file in (ROOT / "migrations").glob("0*.py"):
            if file.stem < number:
                (package / file.name).write_text(file.read_text())
        monkeypatch.syspath_prepend(tmp_path)
        return with_migrations(package.name)

    return older


def job_row(job: str, status: str, run_at: str, owner: str | None = None) -> str:
    whose = "NULL" if owner is None else f"'{owner}'"
    columns = "id, task, status, args, urgency, max_attempts, created_at, run_at, attempt, failures, crashes, last_event, owner"
    values = f"'{job}', 'test', '{status}', '{{}}', 0, 1, 'b', '{run_at}', 0, 0, 0, 0, {whose}"
    return f"INSERT INTO jobs ({columns}) VALUES ({values})"  # noqa: S608


@pytest.mark.slow
async def test_what_was_queued_before_owners_took_turns_is_in_line(
    url: str, older: Callable[[str], tuple[Package]]
) -> None:
    await upgrade(url, older("0004"))
    async with started(url) as database:
        for row in (
            job_row("1", "running", "b"),
            job_row("2", "queued", "c"),
            *(job_row(job, "queued", "b", "key") for job in "34"),
            job_row("5", "queued", "b"),
            job_row("6", "failed", "b"),
        ):
            await database.client.execute_query(row)
    await upgrade(url)
    async with started(url) as database:
        found = await rows(database, "SELECT id, stage, turn FROM jobs ORDER BY id")
        used = await rows(database, "SELECT owner, unfinished, jobs, bytes FROM job_usage ORDER BY owner")
        assert [tuple(row.values()) for row in used] == [("", 3, 4, 8), ("key", 2, 2, 4)]
        assert [tuple(row.values()) for row in found] == [
            ("1", "running", 0),
            ("2", "delayed", None),
            ("3", "ready", 1),
            ("4", "ready", 2),
            ("5", "ready", 2),
            ("6", None, None),
        ]


@pytest.mark.slow
async def test_answers_of_keys_that_were_kept_before_they_were_counted_stay(
    url: str, older: Callable[[str], tuple[Package]]
) -> None:
    await upgrade(url, older("0008"))
    columns = "key, fingerprint, status, headers, body, expires_at"
    async with started(url) as database:
        await database.client.execute_query(
            f"INSERT INTO idempotency_keys ({columns}) VALUES ('k', 'f', 201, '{{}}', 'b', '9')"  # noqa: S608
        )
    await upgrade(url)
    async with started(url) as database:
        [kept] = await rows(database, f"SELECT {columns}, owner, bytes FROM idempotency_keys")  # noqa: S608
        assert tuple(kept.values()) == ("k", "f", 201, "{}", "b", "9", "", 0)


def delivery_row(message: str, owner: str, origin: str, status: str, due: str) -> str:
    columns = "message_id, job_id, owner, url, origin, type, body, status, tries, created_at, next_attempt_at"
    values = f"'{message}', 'job', {owner}, '{origin}/', '{origin}', 'job.failed', '{{}}', '{status}', 0, 'a', {due}"
    return f"INSERT INTO callback_deliveries ({columns}) VALUES ({values})"  # noqa: S608


@pytest.mark.slow
async def test_callbacks_that_were_pending_before_keys_shared_slots_are_due(
    url: str, older: Callable[[str], tuple[Package]]
) -> None:
    await upgrade(url, older("0006"))
    async with started(url) as database:
        for row in (
            delivery_row("1", "NULL", "one", "pending", "'c'"),
            delivery_row("2", "NULL", "one", "pending", "'b'"),
            delivery_row("3", "'key'", "one", "pending", "''"),
            delivery_row("4", "'key'", "two", "delivered", "NULL"),
            "INSERT INTO callback_origins (origin, worker, next_at, failures, open_until) VALUES ('one', 'w', 'b', 9, 'z')",
        ):
            await database.client.execute_query(row)
    await upgrade(url)
    async with started(url) as database:
        queues = await rows(
            database, "SELECT owner, origin, worker, next_at, failures FROM callback_queues ORDER BY owner"
        )
        assert [tuple(row.values()) for row in queues] == [("", "one", None, "b", 0), ("key", "one", None, "", 0)]
        owners = await rows(database, "SELECT owner, forced FROM callback_deliveries ORDER BY id")
        assert [tuple(row.values()) for row in owners] == [("", 0), ("", 0), ("key", 0), ("key", 0)]


async def test_a_database_that_was_never_migrated_says_what_to_run(url: str) -> None:
    if (file := parse(url).file) is not None:
        await asyncio.to_thread(file.touch)
    async with started(url) as database:
        assert (await state(database)).pending[0] == "0001_initial"
        with pytest.raises(DatabaseBehind, match="run `quart-async-api migrate`"):
            await check(database)


async def test_a_database_newer_than_the_program_is_left_alone(database: Database, backend: str) -> None:
    await database.client.execute_query(
        "INSERT INTO tortoise_migrations (app, name, applied_at)"
        " VALUES ('quart_async_api', '9999_future', CURRENT_TIMESTAMP)"
    )
    assert (await state(database)).unknown == ("9999_future",)
    with pytest.raises(DatabaseBehind, match=r"9999_future.*upgrade the program"):
        await check(database)
    with pytest.raises(DatabaseBehind, match="upgrade the program"):
        await upgrade(backend)


async def test_a_dead_database_is_not_taken_for_an_empty_one(own_postgresql: PostgreSQL) -> None:
    with own_postgresql.database(MIGRATED) as url:
        async with started(f"{url}&timeout=2") as database:
            await asyncio.to_thread(own_postgresql.kill)
            try:
                with pytest.raises(DatabaseUnusable):
                    await upgrade(f"{url}&timeout=2")
                with pytest.raises(DatabaseUnavailable):
                    await state(database)
            finally:
                await asyncio.to_thread(own_postgresql.start)


@pytest.mark.process
async def test_processes_that_migrate_at_once_apply_each_migration_once(new_url: NewUrl) -> None:
    program = (
        "import asyncio, sys\n"
        "from quart_async_api.db.migration import upgrade\n"
        "from tests.db.test_migration import with_migrations\n"
        "print(len(asyncio.run(upgrade(sys.argv[1], with_migrations(sys.argv[2])))))\n"
    )
    url = new_url()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, url, SYNTHETIC, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(map(int, outputs)) == 3


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    await upgrade(f"sqlite://{file}", with_migrations(SYNTHETIC))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
