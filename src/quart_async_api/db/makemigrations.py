"""Writes migrations for the changes of models: `python -m quart_async_api.db.makemigrations NAME` for the service's own."""

import asyncio
import importlib
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.writer import format_migration_name

from ..errors import SettingsError
from .history import read
from .packages import OF_THE_SERVICE, Package, Packages, models_of
from .tortoise_internals import SafeContext, targets_of
from .url import parse

if TYPE_CHECKING:
    from tortoise.apps import Apps
    from tortoise.migrations.writer import MigrationWriter


async def write(name: str, packages: Packages = (OF_THE_SERVICE,)) -> list[str]:
    """Write the missing migrations, with a number and `name`. Return their paths. Needs no database.

    Raises SettingsError if packages refer to each other, or have migrations that cannot be applied; OSError.
    """
    read(packages)
    paths = []
    for label in _in_order(packages):
        for writer in await _changes(packages):  # anew, so that each depends on those that were written before
            if writer.app_label == label:
                writer.name = format_migration_name(int(writer.name.split("_", 1)[0]), name)
                paths.append(str(writer.write()))
                importlib.invalidate_caches()
    return paths


async def differing(packages: Packages) -> list[str]:
    """Return the packages whose models differ from their migrations. Raises SettingsError."""
    without = [package.models[0] for package in packages if find_spec(package.migrations) is None]
    if without:
        return without
    read(packages)
    changed = {writer.app_label for writer in await _changes(packages)}
    return [package.models[0] for package in packages if package.label in changed]


def _in_order(packages: Packages) -> Iterable[str]:
    """Return the labels of packages, each after those that its models refer to."""
    referred = {
        package.label: {target.partition(".")[0] for model in models_of(package) for target in targets_of(model)}
        - {package.label}
        for package in packages
    }
    try:
        return tuple(TopologicalSorter(referred).static_order())
    except CycleError as error:
        labels = ", ".join(sorted(set(error.args[1])))
        raise SettingsError(f"the models of {labels} refer to each other: move them into one package") from None


async def _changes(packages: Packages) -> "list[MigrationWriter]":
    config = parse("sqlite://never-opened.db").config(packages)
    async with SafeContext() as context:
        await context.init(config=config)
        apps = cast("Apps", context.apps)  # there, once initialised
        return await MigrationAutodetector(apps, config["apps"]).changes()


def make_folder(package: Package) -> None:
    """Make the package of its migrations, if it has none."""
    above, _, name = package.migrations.rpartition(".")
    folder = Path(importlib.import_module(above).__path__[0]) / name
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    importlib.invalidate_caches()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.stdout.writelines(f"{path}\n" for path in asyncio.run(write(sys.argv[1])))
