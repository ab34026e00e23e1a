from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0005_usage_of_jobs")]

    initial = False

    operations = [
        ops.CreateModel(
            name="CallbackQueue",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("owner", fields.CharField(max_length=36)),
                ("origin", fields.CharField(max_length=300)),
                ("worker", fields.CharField(null=True, max_length=36)),
                ("next_at", fields.CharField(null=True, max_length=27)),
                ("set_at", fields.CharField(max_length=27)),
                ("failures", fields.IntField(default=0)),
                ("failing", fields.SmallIntField(default=0)),
                ("open_until", fields.CharField(null=True, max_length=27)),
            ],
            options={
                "table": "callback_queues",
                "app": "quart_async_api",
                "unique_together": (("owner", "origin"),),
                "indexes": [
                    Index(fields=["owner", "worker", "failing", "next_at"], name="callback_queues_claim"),
                    Index(fields=["origin", "worker", "next_at"], name="callback_queues_origin"),
                    Index(fields=["worker", "next_at"], name="callback_queues_due"),
                    Index(fields=["set_at"], name="callback_queues_set"),
                ],
                "pk_attr": "id",
                "table_description": "The callbacks of one key to one origin. One worker at a time sends to an origin, at `next_at` the earliest.",
            },
            bases=["Model"],
        ),
        ops.RemoveIndex(
            model_name="Delivery",
            name="callback_deliveries_due",
            fields=None,
        ),
        ops.AddField(
            model_name="Delivery",
            name="forced",
            field=fields.SmallIntField(db_default=0),
        ),
        ops.AddField(
            model_name="Delivery",
            name="set_at",
            field=fields.CharField(db_default="", max_length=27),
        ),
        ops.AddIndex(
            model_name="Delivery",
            index=Index(fields=["origin", "owner", "status", "id"], name="callback_deliveries_queue"),
        ),
        ops.RunSQL("UPDATE callback_deliveries SET owner = '' WHERE owner IS NULL"),
        # Breakers begin anew, and nothing that is pending waits for what has been forgotten.
        ops.RunSQL(
            "INSERT INTO callback_queues (owner, origin, next_at, set_at, failures, failing) "
            "SELECT owner, origin, MIN(next_attempt_at), '', 0, 0 FROM callback_deliveries WHERE status = 'pending' "
            "GROUP BY owner, origin"
        ),
        ops.DeleteModel(name="CallbackOrigin"),
    ]
