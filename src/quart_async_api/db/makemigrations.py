"""Writes migrations for the changes of models: `python -m quart_async_api.db.makemigrations NAME` for the service's own."""

import asyncio
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.writer import format_migration_name

from .packages import OF_THE_SERVICE, Package, Packages
from .url import parse

if TYPE_CHECKING:
    from tortoise.apps import Apps


async def write(name: str, packages: Packages = (OF_THE_SERVICE,)) -> list[str]:
    """Write the missing migrations, with a number and `name`. Return their paths. Needs no database."""
    config = parse("sqlite://never-opened.db").config(packages)
    async with TortoiseContext() as context:
        await context.init(config=config)
        apps = cast("Apps", context.apps)  # there, once initialised
        writers = await MigrationAutodetector(apps, config["apps"]).changes()
    for writer in writers:
        writer.name = format_migration_name(int(writer.name.split("_", 1)[0]), name)
    return [str(writer.write()) for writer in writers]


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
