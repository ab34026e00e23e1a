"""Packages with models: the service's own, and those of an app that is built on it. Each has its migrations beside its models.

To Tortoise, each package is an app. Its label is recorded with each applied migration.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from ..errors import SettingsError
from ..tasks import import_here
from . import models
from .tortoise_internals import models_in, table_of, targets_of

LABEL = "quart_async_api"
MIGRATIONS = "quart_async_api.migrations"
_RESERVED = ("tortoise_migrations", "procrastinate_")


@dataclass(frozen=True, slots=True)
class Package:
    """`models` and `migrations` are names of modules, `label` is how models of other packages refer to these."""

    label: str
    models: tuple[str, ...]
    migrations: str

    def shown(self, migration: str) -> str:
        """Return the name of a migration as commands print it."""
        return migration if self.label == LABEL else f"{self.label} {migration}"


OF_THE_SERVICE = Package(LABEL, (models.__name__,), MIGRATIONS)
Packages = Sequence[Package]


def packages(given: Iterable[str | ModuleType]) -> tuple[Package, ...]:
    """Return the packages of these modules with models, such as `shop.models`. Raises SettingsError."""
    if isinstance(given, str):
        raise SettingsError(f"models={given!r} is no list: write models=[{given!r}]")
    names = [each if isinstance(each, str) else each.__name__ for each in given]
    found: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(names):
        package = name.rpartition(".")[0]
        if not package:
            raise SettingsError(
                f"models={name!r} is in no package: name it as shop.models, whose migrations are shop.migrations"
            )
        _check(name, import_here(name))
        found[package] = (*found.get(package, ()), name)
    made = tuple(
        Package(package.replace(".", "_"), modules, f"{package}.migrations") for package, modules in found.items()
    )
    labels = {package.label for package in made}
    for name in names:
        for model in models_in(import_here(name)):
            for target in targets_of(model):
                if target.partition(".")[0] not in labels:
                    raise SettingsError(
                        f"models={name!r}: {model.__name__} refers to {target!r}, which none of {', '.join(labels)} has: "
                        "name the module with it in models= too"
                    )
    return made


def _check(name: str, module: ModuleType) -> None:
    """Raise SettingsError for what could not stand beside the service's tables."""
    taken = {table_of(model) for model in models_in(models)}
    found = list(models_in(module))
    if not found:
        raise SettingsError(f"models={name!r}: the module has no models of Tortoise")
    for model in found:
        table = table_of(model)
        if table in taken or table.startswith(_RESERVED):
            raise SettingsError(
                f"models={name!r}: the table {table!r} of {model.__name__} is the service's: give it another name, "
                f'as class Meta: table = "{name.partition(".")[0]}_{table}"'
            )
        if any(target.partition(".")[0] == LABEL for target in targets_of(model)):
            raise SettingsError(
                f"models={name!r}: {model.__name__} refers to a table of the service, whose rows expire: "
                "keep the id of a job as a value, as CharField(max_length=36)"
            )
