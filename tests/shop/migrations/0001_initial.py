from tortoise import migrations
from tortoise.migrations import operations as ops
import functools
from json import dumps, loads
from tortoise.fields.base import OnDelete
from uuid import uuid4
from tortoise import fields


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Tag",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=20)),
            ],
            options={"table": "shop tags", "app": "tests_shop", "pk_attr": "name"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Order",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("customer", fields.CharField(unique=True, max_length=40)),
                ("job", fields.CharField(null=True, max_length=36)),
                ("paid", fields.BooleanField(default=False)),
                ("total", fields.DecimalField(default=0, max_digits=9, decimal_places=2)),
                (
                    "wishes",
                    fields.JSONField(null=True, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
                (
                    "tags",
                    fields.ManyToManyField(
                        "tests_shop.Tag",
                        unique=True,
                        db_constraint=True,
                        through="shop_order_tags",
                        forward_key="tag_id",
                        backward_key="shop_orders_id",
                        related_name="orders",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
            ],
            options={"table": "shop_orders", "app": "tests_shop", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Line",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=uuid4, unique=True, db_index=True)),
                (
                    "order",
                    fields.ForeignKeyField(
                        "tests_shop.Order",
                        source_field="order_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="lines",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "above",
                    fields.ForeignKeyField(
                        "tests_shop.Line",
                        source_field="above_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("article", fields.CharField(max_length=40)),
                ("picture", fields.BinaryField(null=True)),
                ("day", fields.DateField(null=True)),
                ("weight", fields.FloatField(null=True)),
            ],
            options={"table": "shop_lines", "app": "tests_shop", "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
