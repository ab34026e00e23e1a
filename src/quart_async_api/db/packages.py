"""Packages with models: the service's own, and those of an app that is built on it. Each has its migrations beside its models.

To Tortoise, each package is an app. Its label is recorded with each applied migration.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

from tortoise import Model

from ..errors import SettingsError
from ..tasks import import_here
from . import models
from .tortoise_internals import assign, label_of, models_in, table_of, targets_of

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
    names = tuple(dict.fromkeys(each if isinstance(each, str) else each.__name__ for each in given))
    for name in names:
        if "." not in name:
            raise SettingsError(
                f"models={name!r} is in no package: name it as shop.models, whose migrations are shop.migrations"
            )
        import_here(name)
    homes = tuple(dict.fromkeys(_package_of(name) for name in names))
    made = tuple(_package(home, tuple(name for name in names if _package_of(name) == home)) for home in homes)
    labels = {LABEL: MIGRATIONS}
    for package in made:
        if (other := labels.setdefault(package.label, package.migrations)) != package.migrations:
            raise SettingsError(f"{other} and {package.migrations} have the same label {package.label!r}: rename one")
    tables = {table_of(model): model for model in models_of(OF_THE_SERVICE)}
    for home, package in zip(homes, made, strict=True):
        for name in package.models:
            own = [model for model in models_in(import_here(name)) if _home(model, homes) in (home, None)]
            if not own:
                raise SettingsError(f"models={name!r}: the module has no models of Tortoise")
            for model in own:
                assign(model, package.label)
                _check(f"models={name!r}: {model.__name__}", model, labels, tables)
    return made


def models_of(package: Package) -> Iterator[type[Model]]:
    """Return the models of a package, without those that its modules only import."""
    for name in package.models:
        for model in models_in(import_here(name)):
            if label_of(model) in (package.label, None):
                yield model


def _package_of(module: str) -> str:
    return module.rpartition(".")[0]


def _home(model: type[Model], homes: Iterable[str]) -> str | None:
    """Return the package that has a model, of these: a module may import one of another package."""
    inside = [home for home in homes if f"{model.__module__}.".startswith(f"{home}.")]
    return max(inside, key=len, default=None)


def _package(name: str, modules: tuple[str, ...]) -> Package:
    """Return the package of this name. Its label is LABEL of its migrations: the former one of a renamed package."""
    migrations = f"{name}.migrations"
    own = getattr(import_here(migrations), "LABEL", None) if find_spec(migrations) is not None else None
    label = name.replace(".", "_") if own is None else own
    if not isinstance(label, str) or not label.isidentifier():
        raise SettingsError(f'{migrations} has LABEL = {label!r}: write a name without dots, as in LABEL = "shop"')
    return Package(label, modules, migrations)


def _check(said: str, model: type[Model], labels: Iterable[str], tables: dict[str, type[Model]]) -> None:
    """Raise SettingsError for what could not stand beside the tables of the service and of the other models."""
    table = table_of(model)
    other = tables.setdefault(table.lower(), model)  # SQLite takes "Jobs" for "jobs"
    if label_of(other) in (LABEL, None) or table.lower().startswith(_RESERVED):
        raise SettingsError(
            f"{said} has the table {table!r}, which is the service's: give it another name, "
            f'as class Meta: table = "{label_of(model)}_{table}"'
        )
    if other is not model:
        raise SettingsError(
            f"{said} has the table {table!r}, which is also that of {other.__module__}.{other.__name__}"
        )
    for target in targets_of(model):
        label = target.partition(".")[0]
        if label == LABEL:
            raise SettingsError(
                f"{said} refers to a table of the service, whose rows expire: "
                "keep the id of a job as a value, as CharField(max_length=36)"
            )
        if label not in labels:
            raise SettingsError(
                f"{said} refers to {target!r}, which none of {', '.join(each for each in labels if each != LABEL)} has: "
                "name the module with it in models= too"
            )
