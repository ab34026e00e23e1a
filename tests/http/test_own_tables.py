"""Tables of one's own beside the service's, in one database: `create_app(models=…)`."""

from decimal import Decimal
from pathlib import Path

import pytest
from quart import Blueprint
from tortoise import Model, fields

from quart_async_api import App, Settings, TaskContext, create_app, task
from quart_async_api.db.migration import check, upgrade
from quart_async_api.db.packages import OF_THE_SERVICE, packages
from quart_async_api.errors import DatabaseBehind, SettingsError
from tests.shop.models import Line, Order, Tag

MODELS = "tests.shop.models"
blueprint = Blueprint("orders", __name__)


@task("count-orders")
async def count_orders(ctx: TaskContext, *, customer: str) -> int:
    """Count the orders of a customer."""
    return await Order.filter(customer=customer).count()


@blueprint.post("/orders/<customer>")
async def place(customer: str) -> dict[str, int]:
    order = await Order.create(customer=customer, total=Decimal("1.50"), wishes={"wrap": "red"})
    await Line.create(order=order, article="tea")
    return {"id": order.id}


def shop(url: str) -> App:
    return create_app(
        Settings(database_url=url), tutorial=False, tasks=[count_orders], models=[MODELS], blueprints=[blueprint]
    )


async def test_routes_and_tasks_use_tables_that_migrate_has_made(backend: str) -> None:
    behind = shop(backend)
    with pytest.raises(DatabaseBehind, match=r"lacks tests_shop 0001_initial: run `quart-async-api migrate`"):
        await behind.startup()
    assert await upgrade(backend, (OF_THE_SERVICE, *packages([MODELS]))) == ["tests_shop 0001_initial"]
    app = shop(backend)
    async with app.test_app():
        client = app.test_client()
        assert await (await client.post("/orders/ada")).get_json() == {"id": 1}
        job = await client.post(
            "/jobs",
            json={"task": "count-orders", "args": {"customer": "ada"}},
            headers={"Prefer": "respond-async, wait=30"},
        )
        assert (await job.get_json())["result"] == 1
        with app.service.database.bind():
            [order] = await Order.all().prefetch_related("lines")
            assert (order.total, order.wishes, [line.article for line in order.lines]) == (
                Decimal("1.50"),
                {"wrap": "red"},
                ["tea"],
            )
            await check(app.service.database)
    without = create_app(Settings(database_url=backend))  # as a command that does not know the app
    async with without.test_app():
        await check(without.service.database)


class Clash(Model):
    """Has the name of one of the service's tables."""

    id = fields.IntField(primary_key=True)

    class Meta:
        table = "JOBS"


class Copy(Model):
    """Has the name of another table of the app."""

    id = fields.IntField(primary_key=True)

    class Meta:
        table = "shop_orders"


class Child(Model):
    """Refers to one of the service's tables."""

    id = fields.IntField(primary_key=True)
    job: fields.ForeignKeyRelation[Model] = fields.ForeignKeyField("quart_async_api.Job")


class Stranger(Model):
    """Refers to a model that nobody has named."""

    id = fields.IntField(primary_key=True)
    other: fields.ForeignKeyRelation[Model] = fields.ForeignKeyField("elsewhere.Other")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Stranger, "Stranger refers to 'elsewhere.Other', which none of tests_shop has: name the module with it"),
        (Clash, "Clash has the table 'JOBS', which is the service's: give it another name"),
        (Copy, "Copy has the table 'shop_orders', which is also that of tests.shop.models.Order"),
        (Child, "Child refers to a table of the service, whose rows expire: keep the id of a job as a value"),
    ],
)
def test_a_model_that_cannot_stand_beside_the_service_is_named(
    model: type[Model], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.shop.models.__models__", [Order, Tag, Line, model], raising=False)
    with pytest.raises(SettingsError, match=said):
        create_app(Settings(), models=[MODELS])


async def test_models_without_migrations_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new_shop").mkdir()
    model = "class Order(Model):\n    id = fields.IntField(primary_key=True)\n"
    (tmp_path / "new_shop" / "models.py").write_text(f"from tortoise import Model, fields\n{model}")
    monkeypatch.syspath_prepend(tmp_path)
    said = r"no migrations in new_shop.migrations yet: run `quart-async-api makemigrations initial`"
    with pytest.raises(SettingsError, match=said):
        await upgrade(f"sqlite://{tmp_path}/new.db", (OF_THE_SERVICE, *packages(["new_shop.models"])))
    assert not (tmp_path / "new.db").exists()


def test_a_module_without_models_or_without_a_package_is_named() -> None:
    with pytest.raises(SettingsError, match=r"models='tests.postgresql': the module has no models"):
        create_app(Settings(), models=["tests.postgresql"])
    with pytest.raises(SettingsError, match=r"models='tortoise' is in no package: name it as shop.models"):
        create_app(Settings(), models=["tortoise"])
    with pytest.raises(SettingsError, match=r"models='shop.models' is no list: write models=\['shop.models'\]"):
        create_app(Settings(), models="shop.models")
