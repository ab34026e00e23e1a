"""Packages with models and migrations of an app: which are refused, and what is said then."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from quart_async_api.db.connection import Database
from quart_async_api.db.makemigrations import differing, make_folder, write
from quart_async_api.db.migration import upgrade
from quart_async_api.db.packages import OF_THE_SERVICE, packages
from quart_async_api.errors import DatabaseUnusable, SettingsError

ORDERS = """
from tortoise import Model, fields

class Order(Model):
    id = fields.IntField(primary_key=True)

    class Meta:
        table = "own_orders"
"""
ARTICLES = """
from tortoise import Model, fields

class Article(Model):
    id = fields.IntField(primary_key=True)

    class Meta:
        table = "own_articles"
"""
SECOND = """
from tortoise import fields, migrations
from tortoise.migrations import operations as ops

async def fill(apps, editor):
    1 / 0

class Migration(migrations.Migration):
    dependencies = [("{label}", "0001_initial")]
    operations = [ops.AddField(model_name="Order", name="note", field=fields.TextField(null=True)), {operation}]
"""
NewPackage = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _reads_and_writes_files(_blocking_calls_fail: BlockBuster) -> None:
    """As the commands do, which serve nobody meanwhile."""
    _blocking_calls_fail.deactivate()


@pytest.fixture
def new_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewPackage:
    """Writes a package with these models into a folder whose name is not plain. A name is taken once: modules stay imported."""
    (root := tmp_path / "mein Büro").mkdir()
    monkeypatch.syspath_prepend(root)

    def new(name: str, models: str) -> Path:
        folder = root.joinpath(*name.split("."))
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "models.py").write_text(models)
        return folder

    return new


async def made(*names: str) -> list[str]:
    """Write the first migrations of these packages."""
    found = packages(f"{name}.models" for name in names)
    for each in found:
        make_folder(each)
    return await write("initial", found)


async def test_a_renamed_package_keeps_its_tables_by_its_former_label(new_package: NewPackage, backend: str) -> None:
    former, renamed, labelled = (f"{name}_of_{backend.partition(':')[0]}" for name in ("former", "renamed", "labelled"))
    folder = new_package(former, ORDERS)
    await made(former)
    await upgrade(backend, (OF_THE_SERVICE, *packages([f"{former}.models"])))
    for name in (renamed, labelled):
        shutil.copytree(folder, folder.parent / name)
    own = packages([f"{renamed}.models"])
    said = f'write LABEL = "{former}" in {renamed}/migrations/__init__.py, and go on to refer to its models as "{former}.Ord'
    for using in (upgrade(backend, (OF_THE_SERVICE, *own)), differing(own), write("more", own)):
        with pytest.raises(SettingsError, match=said):
            await using
    (folder.parent / labelled / "migrations" / "__init__.py").write_text(f'LABEL = "{former}"\n')
    own = packages([f"{labelled}.models"])
    assert await upgrade(backend, (OF_THE_SERVICE, *own)) == []
    assert await differing(own) == []


@pytest.mark.parametrize(
    ("name", "operation", "said"),
    [
        (
            "shop_of_python",
            "ops.RunPython(fill)",
            r"changed nothing: ZeroDivisionError: division by zero \(.*0002_more.py:6\)$",
        ),
        ("shop_of_sql", 'ops.RunSQL("INSERT INTO nothing VALUES (1)")', r"changed nothing: .*nothing[^\n]*$"),
    ],
)
async def test_a_migration_that_fails_changes_nothing_and_can_be_mended(
    name: str, operation: str, said: str, new_package: NewPackage, backend: str
) -> None:
    new_package(name, ORDERS)
    [first] = await made(name)
    second = Path(first).with_name("0002_more.py")
    second.write_text(SECOND.format(label=name, operation=operation))
    own = (OF_THE_SERVICE, *packages([f"{name}.models"]))
    with pytest.raises(DatabaseUnusable, match=f"^migration {name} 0002_more failed, and {said}"):
        await upgrade(backend, own)
    database = Database(backend)
    await database.start()
    try:
        assert await database.rows("SELECT * FROM own_orders") == []
        await database.client.execute_query("ALTER TABLE own_orders ADD COLUMN note INTEGER")  # it is not there
    finally:
        await database.stop()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "shop_of_nonsense",
            "class Migration(:",
            "a migration in shop_of_nonsense.migrations cannot be read: SyntaxError: ",
        ),
        (
            "shop_of_nothing",
            "",
            "shop_of_nothing.migrations cannot be read: ValueError: Migration 0002_more .* no Migration class",
        ),
        (
            "shop_of_gaps",
            SECOND.format(label="shop_of_gaps", operation="").replace("initial", "initail"),
            "shop_of_gaps.0002_more depends on shop_of_gaps.0001_initail, which is not in shop_of_gaps.migrations",
        ),
        (
            "shop_of_others",
            SECOND.format(label="elsewhere", operation=""),
            "depends on elsewhere.0001_initial, and models= has no module of elsewhere: name it too",
        ),
    ],
)
async def test_a_migration_that_cannot_be_read_is_named(
    name: str, text: str, said: str, new_package: NewPackage, tmp_path: Path
) -> None:
    new_package(name, ORDERS)
    [first] = await made(name)
    Path(first).with_name("0002_more.py").write_text(text)
    own = packages([f"{name}.models"])
    for using in (upgrade(f"sqlite://{tmp_path}/new.db", (OF_THE_SERVICE, *own)), differing(own), write("more", own)):
        with pytest.raises(SettingsError, match=said):
            await using
    assert not (tmp_path / "new.db").exists()


async def test_a_check_names_the_modules_whose_models_differ_from_their_migrations(new_package: NewPackage) -> None:
    """A module of one package may import a model of another: it has its own package all the same, in any order of models=."""
    models = "from .stock.models import Article\n" + ORDERS.replace(
        "\n    class", '    article = fields.ForeignKeyField("checked_shop_stock.Article")\n\n    class'
    )
    folder = new_package("checked_shop", models)
    new_package("checked_shop.stock", ARTICLES)
    own = packages(["checked_shop.models", "checked_shop.stock.models"])
    assert await differing(own) == ["checked_shop.models", "checked_shop.stock.models"]
    assert not (folder / "migrations").exists()
    stock, shop = await made("checked_shop", "checked_shop.stock")
    assert (stock, shop) == (f"{folder}/stock/migrations/0001_initial.py", f"{folder}/migrations/0001_initial.py")
    assert await differing(own) == []
    lines = Path(shop).read_text().splitlines()
    Path(shop).write_text("\n".join(line for line in lines if "'article'" not in line))
    del sys.modules["checked_shop.migrations.0001_initial"]
    assert await differing(own) == ["checked_shop.models"]
    assert sorted(each.name for each in Path(shop).parent.glob("*.py")) == ["0001_initial.py", "__init__.py"]


def test_a_label_that_cannot_be_or_is_taken_is_named(new_package: NewPackage) -> None:
    for name, text, said in (
        ("dotted_shop", 'LABEL = "a.b"', "dotted_shop.migrations has LABEL = 'a.b': write a name without dots"),
        (
            "bold_shop",
            'LABEL = "quart_async_api"',
            "bold_shop.migrations have the same label 'quart_async_api': rename one",
        ),
    ):
        migrations = new_package(name, ORDERS) / "migrations"
        migrations.mkdir()
        (migrations / "__init__.py").write_text(text)
        with pytest.raises(SettingsError, match=said):
            packages([f"{name}.models"])
