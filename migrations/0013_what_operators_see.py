from tortoise import migrations
from tortoise.migrations import operations as ops
from quart_async_api.db.indexes import PartialIndex
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0012_engine_schema")]

    initial = False

    operations = [
        ops.AddIndex(
            model_name="Delivery",
            index=Index(fields=["owner", "id"], name="callback_deliveries_owner"),
        ),
        ops.AddIndex(
            model_name="Delivery",
            index=Index(fields=["owner", "status", "id"], name="callback_deliveries_owner_status"),
        ),
        ops.AddIndex(
            model_name="Delivery",
            index=Index(fields=["status", "id"], name="callback_deliveries_status"),
        ),
        ops.AddIndex(
            model_name="Delivery",
            index=Index(fields=["origin", "id"], name="callback_deliveries_origin"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=PartialIndex(fields=["retry_of", "id"], name="jobs_retries", where="retry_of IS NOT NULL"),
        ),
        ops.AddField(
            model_name="Worker",
            name="engine",
            field=fields.CharField(null=True, max_length=11),
        ),
        ops.AddField(
            model_name="Worker",
            name="host",
            field=fields.CharField(null=True, max_length=255),
        ),
        ops.AddField(
            model_name="Worker",
            name="last_beat_at",
            field=fields.CharField(null=True, max_length=27),
        ),
        ops.AddField(
            model_name="Worker",
            name="pid",
            field=fields.BigIntField(null=True),
        ),
    ]
