"""The migrations on disk, in the order in which they are applied."""

import functools
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec

from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.migration import Migration
from tortoise.migrations.operations import CreateModel
from tortoise.migrations.recorder import MigrationRecorder

from ..errors import SettingsError, told
from .packages import LABEL, Package

Found = Mapping[MigrationKey, Migration]


@functools.cache
def on_disk(packages: tuple[Package, ...]) -> tuple[MigrationKey, ...]:
    """Return all migrations in the order in which they are applied: the service's, then the others as they need each other.

    The names of the service's begin with their number. Raises SettingsError, also for a package that has none.
    """
    found = read(packages)
    for package in packages:
        if all(key.app_label != package.label for key in found):
            raise SettingsError(
                f"there are no migrations in {package.migrations} yet: run `quart-async-api makemigrations initial`"
            )
    needed = {key: [each for each in _needed(found[key]) if each in found] for key in sorted(found)}
    try:
        in_order = tuple(TopologicalSorter(needed).static_order())
    except CycleError as error:
        raise SettingsError(f"migrations depend on each other: {', '.join(map(str, error.args[1]))}") from None
    return tuple(sorted(in_order, key=lambda key: key.app_label != LABEL))


def read(packages: Sequence[Package]) -> Found:
    """Return the migrations of these packages. Raises SettingsError for those that Tortoise could not apply."""
    modules = {package.label: package.migrations for package in packages if find_spec(package.migrations) is not None}
    found: dict[MigrationKey, Migration] = {}
    for label, module in modules.items():
        loader = MigrationLoader({label: {"migrations": module}}, MigrationRecorder(None))
        try:
            loader.load_disk()
        except Exception as error:
            raise SettingsError(f"a migration in {module} cannot be read: {told(error, module)}") from error
        found |= loader.disk_migrations
    for key, migration in found.items():
        _check_label(key.app_label, modules[key.app_label], migration)
        for each in _needed(migration):
            if each not in found and each.app_label in modules and not each.name.startswith("__"):
                raise SettingsError(f"the migration {key} depends on {each}, which is not in {modules[each.app_label]}")
            if each.app_label not in (*modules, LABEL):
                raise SettingsError(
                    f"the migration {key} depends on {each}, and models= has no module of {each.app_label}: name it too"
                )
    return found


def _needed(migration: Migration) -> list[MigrationKey]:
    return [MigrationKey(*each) for each in migration.dependencies]


def _check_label(label: str, module: str, migration: Migration) -> None:
    """Raise SettingsError for a migration of a package that has been renamed since."""
    for operation in migration.operations:
        if not isinstance(operation, CreateModel):
            continue
        if (former := (operation.options or {}).get("app", label)) != label:
            raise SettingsError(
                f"the migrations in {module} were written for {former!r}: if this package was renamed, write "
                f'LABEL = "{former}" in {module.replace(".", "/")}/__init__.py, and go on to refer to its models as '
                f'"{former}.{operation.name}"'
            )
