from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0013_what_operators_see")]

    initial = False

    operations = [
        ops.CreateModel(
            name="MinuteFigures",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("minute", fields.IntField()),
                ("process", fields.CharField(max_length=36)),
                ("figures", fields.TextField(unique=False)),
            ],
            options={
                "table": "figures",
                "app": "quart_async_api",
                "unique_together": (("minute", "process"),),
                "pk_attr": "id",
                "table_description": "What one process has counted in one minute, as JSON: observability/minutes.py.",
            },
            bases=["Model"],
        ),
    ]
