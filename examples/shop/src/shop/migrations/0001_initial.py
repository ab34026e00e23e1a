from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.fields.base import OnDelete
from tortoise import fields


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Article",
            fields=[
                ("sku", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=20)),
                ("name", fields.CharField(max_length=80)),
                ("price", fields.IntField()),
                ("weight", fields.IntField()),
                ("stock", fields.IntField()),
                ("full", fields.IntField()),
            ],
            options={
                "table": "shop_article",
                "app": "shop",
                "pk_attr": "sku",
                "table_description": "What the shop sells: `price` in cents, `weight` in grams. At night, `stock` is filled up to `full`.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Order",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("run", fields.CharField(unique=True, max_length=36)),
                ("customer", fields.BigIntField()),
                ("country", fields.CharField(max_length=2)),
                ("price", fields.IntField()),
                ("weight", fields.IntField()),
                ("packing", fields.CharField(null=True, max_length=36)),
                ("parcel", fields.CharField(null=True, max_length=40)),
            ],
            options={
                "table": "shop_order",
                "app": "shop",
                "pk_attr": "id",
                "table_description": "`run` is the run of the task that placed it, `packing` the job that packs it, `parcel` None until it is packed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Line",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "order",
                    fields.ForeignKeyField(
                        "shop.Order",
                        source_field="order_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="lines",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "article",
                    fields.ForeignKeyField(
                        "shop.Article",
                        source_field="article_id",
                        db_constraint=True,
                        to_field="sku",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("count", fields.IntField()),
            ],
            options={"table": "shop_line", "app": "shop", "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
