"""The tables. A change here wants a migration: `python -m quart_async_api.db.makemigrations NAME`."""

from tortoise import Model, fields
from tortoise.indexes import Index


class User(Model):
    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(max_length=50)
    email = fields.CharField(max_length=100)
    # The casefolded email, which makes the address unique whatever its case. Folding can triple a text's length.
    email_key = fields.CharField(max_length=300, unique=True)

    class Meta:
        table = "users"


class Job(Model):
    """One run of a task. Times are RFC 3339 UTC text with six digits, which sorts, and is the same on every backend."""

    id = fields.CharField(max_length=36, primary_key=True)  # a UUIDv7: newest first is by id, descending
    task = fields.CharField(max_length=200)
    status = fields.CharField(max_length=9)
    args = fields.TextField()
    urgency = fields.SmallIntField()  # the priority, negated: the most urgent, then the oldest, is first in the index
    max_attempts = fields.SmallIntField()
    timeout = fields.FloatField(null=True)
    created_at = fields.CharField(max_length=27)
    run_at = fields.CharField(max_length=27)
    started_at = fields.CharField(max_length=27, null=True)
    finished_at = fields.CharField(max_length=27, null=True)
    expires_at = fields.CharField(max_length=27, null=True)
    cancel_requested_at = fields.CharField(max_length=27, null=True)
    attempt = fields.IntField(default=0)
    failures = fields.IntField(default=0)  # attempts that failed by themselves: what max_attempts counts
    crashes = fields.IntField(default=0)  # attempts whose process died: what QAA_CRASH_LIMIT counts
    run_token = fields.CharField(max_length=36, null=True)  # the fence: only its holder may write the run
    worker = fields.CharField(max_length=36, null=True)
    last_event = fields.IntField(default=0)
    progress = fields.TextField(null=True)
    result = fields.TextField(null=True)
    error = fields.TextField(null=True)
    retry_of = fields.CharField(max_length=36, null=True)
    traceparent = fields.CharField(max_length=55, null=True)

    class Meta:
        table = "jobs"
        indexes = (
            Index(fields=("status", "urgency", "id"), name="jobs_claim"),
            Index(fields=("task", "id"), name="jobs_task"),
            Index(fields=("status", "id"), name="jobs_status"),
            Index(fields=("expires_at",), name="jobs_expiry"),
        )


class JobAttempt(Model):
    """One attempt of a job that has ended."""

    id = fields.BigIntField(primary_key=True)
    job_id = fields.CharField(max_length=36)
    number = fields.IntField()
    started_at = fields.CharField(max_length=27)
    finished_at = fields.CharField(max_length=27)
    outcome = fields.CharField(max_length=9)
    error = fields.TextField(null=True)

    class Meta:
        table = "job_attempts"
        unique_together = (("job_id", "number"),)


class JobEvent(Model):
    """What happened to a job, numbered from 1 in each job. `id` orders the events of all jobs."""

    id = fields.BigIntField(primary_key=True)
    job_id = fields.CharField(max_length=36)
    number = fields.IntField()
    name = fields.CharField(max_length=20)
    data = fields.TextField()
    created_at = fields.CharField(max_length=27)

    class Meta:
        table = "job_events"
        unique_together = (("job_id", "number"),)


class JobTombstone(Model):
    """What is left of a job that has expired."""

    id = fields.CharField(max_length=36, primary_key=True)
    task = fields.CharField(max_length=200)
    finished_at = fields.CharField(max_length=27)
    expires_at = fields.CharField(max_length=27, db_index=True)

    class Meta:
        table = "job_tombstones"


class IdempotencyKey(Model):
    """The answer that the first request with this key got."""

    key = fields.CharField(max_length=64, primary_key=True)  # a digest of the caller, the method, the path and the key
    fingerprint = fields.CharField(max_length=64)
    job_id = fields.CharField(max_length=36, null=True)  # where the request started a job
    status = fields.SmallIntField()
    headers = fields.TextField()
    body = fields.TextField()
    expires_at = fields.CharField(max_length=27, db_index=True)

    class Meta:
        table = "idempotency_keys"


class ScheduleTick(Model):
    """That a schedule has fired for this minute, whichever process did it."""

    id = fields.BigIntField(primary_key=True)
    task = fields.CharField(max_length=200)
    tick = fields.CharField(max_length=27)

    class Meta:
        table = "schedule_ticks"
        unique_together = (("task", "tick"),)


class Worker(Model):
    """A process that runs jobs. Its `beat` grows as long as it answers."""

    id = fields.CharField(max_length=36, primary_key=True)
    beat = fields.BigIntField()
    started_at = fields.CharField(max_length=27)

    class Meta:
        table = "workers"
