from tortoise import migrations
from tortoise.migrations import operations as ops
from quart_async_api.db.indexes import PartialIndex
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0014_figures")]

    initial = False

    operations = [
        ops.CreateModel(
            name="TaskState",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("paused_at", fields.CharField(null=True, max_length=27)),
                ("resumed_at", fields.CharField(null=True, max_length=27)),
                ("last_run_at", fields.CharField(null=True, max_length=27)),
            ],
            options={
                "table": "task_states",
                "app": "quart_async_api",
                "pk_attr": "name",
                "table_description": "What operators and schedules have done to a task: jobs/pauses.py.",
            },
            bases=["Model"],
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["task", "id"], name="jobs_paused", where="stage = 'paused'"),
        ),
    ]
