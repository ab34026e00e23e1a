from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0011_order_of_events")]

    initial = False

    operations = [
        ops.CreateModel(
            name="EngineMigration",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("applied_at", fields.CharField(max_length=27)),
            ],
            options={
                "table": "engine_migrations",
                "app": "quart_async_api",
                "pk_attr": "name",
                "table_description": "A step of the schema of the distributed engine that this database has: jobs/engine_schema.py.",
            },
            bases=["Model"],
        ),
    ]
