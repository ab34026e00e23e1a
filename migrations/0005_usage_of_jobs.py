from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0004_fair_queue")]

    initial = False

    operations = [
        ops.CreateModel(
            name="JobUsage",
            fields=[
                ("owner", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("unfinished", fields.BigIntField()),
                ("jobs", fields.BigIntField()),
                ("bytes", fields.BigIntField()),
            ],
            options={
                "table": "job_usage",
                "app": "quart_async_api",
                "pk_attr": "owner",
                "table_description": "What the jobs of one owner take up, of the API key of this id or, under the empty name, of callers without one.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Job",
            name="bytes",
            field=fields.BigIntField(default=0, db_default=0),
        ),
        ops.RunSQL(
            [
                "UPDATE jobs SET bytes = LENGTH(args) + COALESCE(LENGTH(result), 0) + COALESCE(LENGTH(error), 0) + "
                "COALESCE((SELECT SUM(LENGTH(data)) FROM job_events WHERE job_id = jobs.id), 0)",
                "INSERT INTO job_usage (owner, unfinished, jobs, bytes) SELECT COALESCE(owner, ''), "
                "SUM(CASE WHEN status IN ('queued', 'running') THEN 1 ELSE 0 END), COUNT(*), SUM(bytes) FROM jobs "
                "GROUP BY COALESCE(owner, '')",
            ]
        ),
    ]
