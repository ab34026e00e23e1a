from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0003_callbacks_and_keys")]

    initial = False

    operations = [
        ops.CreateModel(
            name="JobTurn",
            fields=[
                ("urgency", fields.SmallIntField(generated=False, primary_key=True, unique=True, db_index=True)),
                ("turn", fields.BigIntField()),
            ],
            options={
                "table": "job_turns",
                "app": "quart_async_api",
                "pk_attr": "urgency",
                "table_description": "The turn that claims have reached in each priority.",
            },
            bases=["Model"],
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_claim",
            fields=None,
        ),
        ops.AddField(
            model_name="Job",
            name="slot",
            field=fields.CharField(null=True, max_length=300),
        ),
        ops.AddField(
            model_name="Job",
            name="slot_limit",
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name="Job",
            name="stage",
            field=fields.CharField(null=True, max_length=7),
        ),
        ops.AddField(
            model_name="Job",
            name="turn",
            field=fields.BigIntField(null=True),
        ),
        ops.RunSQL(
            [
                "UPDATE jobs SET stage = 'running', turn = 0 WHERE status = 'running'",
                "UPDATE jobs SET stage = 'delayed' WHERE status = 'queued' AND run_at > created_at",
                "UPDATE jobs SET stage = 'ready', turn = line.turn FROM (SELECT id, ROW_NUMBER() OVER "
                "(PARTITION BY urgency, owner ORDER BY id) AS turn FROM jobs WHERE status = 'queued') AS line "
                "WHERE line.id = jobs.id AND jobs.stage IS NULL",
            ]
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["stage", "task", "urgency", "turn", "id"], name="jobs_ready"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["owner", "stage", "urgency", "turn"], name="jobs_turn"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["stage", "run_at", "id"], name="jobs_delayed"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["stage", "started_at", "id"], name="jobs_began"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["slot", "stage", "urgency", "owner", "id"], name="jobs_slot"),
        ),
    ]
