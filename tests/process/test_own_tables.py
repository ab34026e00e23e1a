"""Tables of one's own by the commands: `makemigrations`, `migrate`, `serve`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.process.conftest import ALL_MIGRATIONS, assert_clean
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process

MODELS = """
from tortoise import Model, fields

class Order(Model):
    id = fields.IntField(primary_key=True)
    article = fields.ForeignKeyField("shop_stock.Article")

    class Meta:
        table = "shop_orders"
"""
STOCK = """
from tortoise import Model, fields

class Article(Model):
    id = fields.CharField(max_length=40, primary_key=True)

    class Meta:
        table = "shop_articles"
"""
APP = """
from quart import Blueprint
from quart_async_api import Settings, create_app
from .models import Order
from .stock.models import Article

blueprint = Blueprint("orders", __name__)

@blueprint.post("/orders/<article>")
async def place(article: str) -> dict:
    order = await Order.create(article=await Article.create(id=article))
    return {"id": order.id, "note": order.note}

def make_app(settings: Settings | None = None):
    return create_app(settings, tutorial=False, models=["shop.models", "shop.stock.models"], blueprints=[blueprint])
"""


def test_an_app_makes_and_applies_its_migrations_after_those_of_the_service(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    for folder in (shop, shop / "stock"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (shop / "stock" / "models.py").write_text(STOCK)
    (shop / "models.py").write_text(MODELS)
    (shop / "app.py").write_text(APP)
    settings = {"QAA_DATABASE_URL": f"sqlite://{tmp_path}/app.db", "QAA_APP": "shop.app:make_app"}

    def program(*words: str) -> str:
        ended = run((*PROGRAM, *words), tmp_path, settings)
        assert ended.returncode == bool(ended.stderr), ended.stderr
        return ended.stdout or ended.stderr

    made = program("makemigrations", "initial").splitlines()
    assert made == [f"{shop}/stock/migrations/0001_initial.py", f"{shop}/migrations/0001_initial.py"]
    assert "dependencies = [('shop_stock', '0001_initial')]" in (shop / "migrations" / "0001_initial.py").read_text()
    with ThreadPoolExecutor(2) as threads:
        outputs = list(threads.map(lambda _: program("migrate"), range(2)))
    applied = sorted(
        name
        for output in outputs
        if output.startswith("applied ")
        for name in output.removeprefix("applied ").strip().split(", ")
    )
    assert applied == [*ALL_MIGRATIONS.split(", "), "shop 0001_initial", "shop_stock 0001_initial"]

    (shop / "models.py").write_text(
        MODELS.replace('Article")\n', 'Article")\n    note = fields.TextField(db_default="none")\n')
    )
    assert program("makemigrations", "--check", "shop.app:make_app") == (
        "error: the migrations do not have all of shop.models: run `quart-async-api makemigrations NAME`\n"
    )
    assert program("makemigrations", "add_note") == f"{shop}/migrations/0002_add_note.py\n"
    assert program("makemigrations", "--check") == program("makemigrations", "again") == ""
    assert program("migrate", "shop.app:make_app") == "applied shop 0002_add_note\n"
    with ServerProcess(tmp_path, settings, (*PROGRAM, "serve", "--bind", "127.0.0.1:0")) as server:
        assert httpx.post(f"{server.url}/orders/tea").json() == {"id": 1, "note": "none"}
        assert server.stop() == 0
    assert_clean(server)
