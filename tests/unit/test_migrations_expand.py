"""Migrations only add to the schema, so that processes of the version before go on: docs/how-to/upgrade.md."""

import importlib
from pathlib import Path

import pytest
from tortoise.fields.base import Field
from tortoise.migrations import operations as ops

MIGRATIONS = Path(__file__).parents[2] / "migrations"
FIRST = "0010"  # older ones came before this rule
CONTRACTING: frozenset[str] = (
    frozenset()
)  # names of migrations after which processes of the version before need not go on
ADDING = (
    ops.CreateModel,
    ops.AddField,
    ops.AddIndex,
    ops.RemoveIndex,
    ops.AlterModelOptions,
    ops.RunPython,
    ops.RunSQL,
)
NAMES = sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py") if file.stem >= FIRST)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CONTRACTING])
def test_a_migration_only_adds(name: str) -> None:
    for operation in importlib.import_module(f"quart_async_api.migrations.{name}").Migration.operations:
        assert isinstance(operation, ADDING), operation
        if isinstance(operation, ops.AddField):
            field = operation.field
            assert isinstance(field, Field)
            assert field.null or field.has_db_default(), operation.name  # the old version inserts rows without it
            assert not field.unique, operation.name
