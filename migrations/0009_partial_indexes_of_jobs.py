from tortoise import migrations
from tortoise.migrations import operations as ops
from quart_async_api.db.indexes import PartialIndex


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0008_answers_of_keys")]

    initial = False

    operations = [
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_expiry",
            fields=None,
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_ready",
            fields=None,
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_turn",
            fields=None,
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_delayed",
            fields=None,
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_began",
            fields=None,
        ),
        ops.RemoveIndex(
            model_name="Job",
            name="jobs_slot",
            fields=None,
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["task", "urgency", "turn", "id"], name="jobs_ready", where="stage = 'ready'"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["owner", "urgency", "turn"], name="jobs_turn", where="stage = 'ready'"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["run_at", "id"], name="jobs_delayed", where="stage = 'delayed'"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["started_at", "id"], name="jobs_began", where="stage = 'delayed'"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(
                fields=["slot", "stage", "urgency", "owner", "id"], name="jobs_slot", where="slot IS NOT NULL"
            ),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["expires_at"], name="jobs_expiry", where="expires_at IS NOT NULL"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(
                fields=["id"],
                name="jobs_misplaced",
                where="(CASE status WHEN 'queued' THEN stage IS NULL OR stage = 'running' WHEN 'running' THEN stage IS NULL OR stage <> 'running' ELSE stage IS NOT NULL END)",
            ),
        ),
    ]
