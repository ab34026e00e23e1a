from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("quart_async_api", "0001_initial")]

    initial = False

    operations = [
        ops.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("fingerprint", fields.CharField(max_length=64)),
                ("job_id", fields.CharField(null=True, max_length=36)),
                ("status", fields.SmallIntField()),
                ("headers", fields.TextField(unique=False)),
                ("body", fields.TextField(unique=False)),
                ("expires_at", fields.CharField(db_index=True, max_length=27)),
            ],
            options={
                "table": "idempotency_keys",
                "app": "quart_async_api",
                "pk_attr": "key",
                "table_description": "The answer that the first request with this key got.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Job",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("task", fields.CharField(max_length=200)),
                ("status", fields.CharField(max_length=9)),
                ("args", fields.TextField(unique=False)),
                ("urgency", fields.SmallIntField()),
                ("max_attempts", fields.SmallIntField()),
                ("timeout", fields.FloatField(null=True)),
                ("created_at", fields.CharField(max_length=27)),
                ("run_at", fields.CharField(max_length=27)),
                ("started_at", fields.CharField(null=True, max_length=27)),
                ("finished_at", fields.CharField(null=True, max_length=27)),
                ("expires_at", fields.CharField(null=True, max_length=27)),
                ("cancel_requested_at", fields.CharField(null=True, max_length=27)),
                ("attempt", fields.IntField(default=0)),
                ("failures", fields.IntField(default=0)),
                ("crashes", fields.IntField(default=0)),
                ("run_token", fields.CharField(null=True, max_length=36)),
                ("worker", fields.CharField(null=True, max_length=36)),
                ("last_event", fields.IntField(default=0)),
                ("progress", fields.TextField(null=True, unique=False)),
                ("result", fields.TextField(null=True, unique=False)),
                ("error", fields.TextField(null=True, unique=False)),
                ("retry_of", fields.CharField(null=True, max_length=36)),
                ("traceparent", fields.CharField(null=True, max_length=55)),
            ],
            options={
                "table": "jobs",
                "app": "quart_async_api",
                "indexes": [
                    Index(fields=["status", "urgency", "id"], name="jobs_claim"),
                    Index(fields=["task", "id"], name="jobs_task"),
                    Index(fields=["status", "id"], name="jobs_status"),
                    Index(fields=["expires_at"], name="jobs_expiry"),
                ],
                "pk_attr": "id",
                "table_description": "One run of a task. Times are RFC 3339 UTC text with six digits, which sorts, and is the same on every backend.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="JobAttempt",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("job_id", fields.CharField(max_length=36)),
                ("number", fields.IntField()),
                ("started_at", fields.CharField(max_length=27)),
                ("finished_at", fields.CharField(max_length=27)),
                ("outcome", fields.CharField(max_length=9)),
                ("error", fields.TextField(null=True, unique=False)),
            ],
            options={
                "table": "job_attempts",
                "app": "quart_async_api",
                "unique_together": (("job_id", "number"),),
                "pk_attr": "id",
                "table_description": "One attempt of a job that has ended.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="JobEvent",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("job_id", fields.CharField(max_length=36)),
                ("number", fields.IntField()),
                ("name", fields.CharField(max_length=20)),
                ("data", fields.TextField(unique=False)),
                ("created_at", fields.CharField(max_length=27)),
            ],
            options={
                "table": "job_events",
                "app": "quart_async_api",
                "unique_together": (("job_id", "number"),),
                "pk_attr": "id",
                "table_description": "What happened to a job, numbered from 1 in each job. `id` orders the events of all jobs.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="JobTombstone",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("task", fields.CharField(max_length=200)),
                ("finished_at", fields.CharField(max_length=27)),
                ("expires_at", fields.CharField(db_index=True, max_length=27)),
            ],
            options={
                "table": "job_tombstones",
                "app": "quart_async_api",
                "pk_attr": "id",
                "table_description": "What is left of a job that has expired.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ScheduleTick",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("task", fields.CharField(max_length=200)),
                ("tick", fields.CharField(max_length=27)),
            ],
            options={
                "table": "schedule_ticks",
                "app": "quart_async_api",
                "unique_together": (("task", "tick"),),
                "pk_attr": "id",
                "table_description": "That a schedule has fired for this minute, whichever process did it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Worker",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ("beat", fields.BigIntField()),
                ("started_at", fields.CharField(max_length=27)),
            ],
            options={
                "table": "workers",
                "app": "quart_async_api",
                "pk_attr": "id",
                "table_description": "A process that runs jobs. Its `beat` grows as long as it answers.",
            },
            bases=["Model"],
        ),
    ]
