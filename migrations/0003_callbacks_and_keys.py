from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0002_jobs")]

    initial = False

    operations = [
        ops.CreateModel(
            name="AccessToken",
            fields=[
                ("digest", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("kind", fields.CharField(max_length=7)),
                ("key_id", fields.CharField(max_length=36)),
                ("expires_at", fields.CharField(db_index=True, max_length=27)),
            ],
            options={
                "table": "access_tokens",
                "app": "quart_async_api",
                "pk_attr": "digest",
                "table_description": "What stands for a key for a while: a browser's session, or a ticket that is good for one request.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ApiKey",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("name", fields.CharField(unique=True, max_length=100)),
                ("digest", fields.CharField(max_length=64)),
                ("scopes", fields.CharField(max_length=50)),
                ("version", fields.BigIntField(db_index=True)),
                ("created_at", fields.CharField(max_length=27)),
                ("expires_at", fields.CharField(null=True, max_length=27)),
                ("revoked_at", fields.CharField(null=True, max_length=27)),
                ("last_used_at", fields.CharField(null=True, max_length=27)),
            ],
            options={
                "table": "api_keys",
                "app": "quart_async_api",
                "pk_attr": "id",
                "table_description": "Who may use the service. Only a digest of the key is kept. A revoked key stays, so that its jobs have a name.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="CallbackOrigin",
            fields=[
                ("origin", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=300)),
                ("worker", fields.CharField(null=True, max_length=36)),
                ("next_at", fields.CharField(null=True, max_length=27)),
                ("failures", fields.IntField(default=0)),
                ("open_until", fields.CharField(null=True, max_length=27)),
            ],
            options={
                "table": "callback_origins",
                "app": "quart_async_api",
                "indexes": [Index(fields=["worker", "next_at"], name="callback_origins_due")],
                "pk_attr": "origin",
                "table_description": "A place that callbacks go to. One worker at a time sends there, at `next_at` the earliest.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Delivery",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("message_id", fields.CharField(unique=True, max_length=40)),
                ("job_id", fields.CharField(db_index=True, max_length=36)),
                ("owner", fields.CharField(null=True, max_length=36)),
                ("url", fields.CharField(max_length=2048)),
                ("origin", fields.CharField(max_length=300)),
                ("type", fields.CharField(max_length=20)),
                ("body", fields.TextField(unique=False)),
                ("traceparent", fields.CharField(null=True, max_length=55)),
                ("status", fields.CharField(max_length=9)),
                ("tries", fields.IntField(default=0)),
                ("created_at", fields.CharField(max_length=27)),
                ("next_attempt_at", fields.CharField(null=True, max_length=27)),
                ("expires_at", fields.CharField(null=True, db_index=True, max_length=27)),
            ],
            options={
                "table": "callback_deliveries",
                "app": "quart_async_api",
                "indexes": [Index(fields=["origin", "status", "id"], name="callback_deliveries_due")],
                "pk_attr": "id",
                "table_description": "A callback to be sent. `id` orders them as their events were committed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="DeliveryAttempt",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("message_id", fields.CharField(max_length=40)),
                ("number", fields.IntField()),
                ("at", fields.CharField(max_length=27)),
                ("status", fields.SmallIntField(null=True)),
                ("error", fields.TextField(null=True, unique=False)),
                ("body", fields.TextField(null=True, unique=False)),
            ],
            options={
                "table": "callback_attempts",
                "app": "quart_async_api",
                "unique_together": (("message_id", "number"),),
                "pk_attr": "id",
                "table_description": "One try of a delivery: what the target answered, or why there was no answer.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="DisabledTarget",
            fields=[
                ("digest", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("url", fields.CharField(max_length=2048)),
                ("disabled_at", fields.CharField(max_length=27)),
            ],
            options={
                "table": "callback_disabled_targets",
                "app": "quart_async_api",
                "pk_attr": "digest",
                "table_description": "A callback URL that answered 410: nothing is sent there until a replay.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="WebhookSecret",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("key_id", fields.CharField(default="", db_index=True, max_length=36)),
                ("secret", fields.CharField(max_length=100)),
                ("created_at", fields.CharField(max_length=27)),
                ("expires_at", fields.CharField(null=True, max_length=27)),
            ],
            options={
                "table": "webhook_secrets",
                "app": "quart_async_api",
                "pk_attr": "id",
                "table_description": "What callbacks are signed with, for one key, or for the service where there is none. As it is: signing needs it.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Job",
            name="callback_events",
            field=fields.CharField(null=True, max_length=200),
        ),
        ops.AddField(
            model_name="Job",
            name="callback_url",
            field=fields.CharField(null=True, max_length=2048),
        ),
        ops.AddField(
            model_name="Job",
            name="owner",
            field=fields.CharField(null=True, max_length=36),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["owner", "id"], name="jobs_owner"),
        ),
        ops.AddIndex(
            model_name="Job",
            index=Index(fields=["owner", "status", "id"], name="jobs_owner_status"),
        ),
        ops.AddField(
            model_name="JobTombstone",
            name="owner",
            field=fields.CharField(null=True, max_length=36),
        ),
    ]
