from tortoise import migrations
from tortoise.migrations import operations as ops
from quart_async_api.db.indexes import PartialIndex
from tortoise import fields


async def note_transactions(apps, editor):
    """Let PostgreSQL note who writes an event, also for processes of an older version."""
    if editor.client.capabilities.dialect == "postgres":
        await editor.client.execute_query(
            "ALTER TABLE job_events ALTER COLUMN txid SET DEFAULT pg_current_xact_id()::text::bigint"
        )


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0010_tracebacks_of_attempts")]

    initial = False

    operations = [
        ops.AlterModelOptions(
            name="JobEvent",
            options={
                "table": "job_events",
                "app": "quart_async_api",
                "unique_together": (("job_id", "number"),),
                "indexes": [PartialIndex(fields=["txid", "id"], name="job_events_order", where="txid > 0")],
                "pk_attr": "id",
                "table_description": "What happened to a job, numbered from 1 in each job. `txid` and `id` order the events of all jobs.",
            },
        ),
        ops.AddField(
            model_name="JobEvent",
            name="txid",
            field=fields.BigIntField(db_default=0),
        ),
        ops.AddIndex(
            model_name="JobEvent",
            index=PartialIndex(fields=["txid", "id"], name="job_events_order", where="txid > 0"),
        ),
        ops.RunPython(note_transactions, ops.RunPython.noop),
    ]
