from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0015_pauses_of_tasks")]

    initial = False

    operations = [
        ops.CreateModel(
            name="JobBulk",
            fields=[
                ("job_id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("matched", fields.BigIntField()),
                ("done", fields.BigIntField()),
                ("status", fields.CharField(max_length=9)),
                ("last_id", fields.CharField(max_length=36)),
            ],
            options={
                "table": "job_bulks",
                "app": "quart_async_api",
                "pk_attr": "job_id",
                "table_description": "How far a bulk job is: jobs/bulk.py.",
            },
            bases=["Model"],
        ),
    ]
