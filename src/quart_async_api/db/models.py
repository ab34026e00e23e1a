"""The tables. A change here, also of a docstring, needs a migration: `python -m quart_async_api.db.makemigrations NAME`."""

from tortoise import Model, fields
from tortoise.indexes import Index

from .indexes import PartialIndex

# Jobs that a process of an older version has written: their stage does not match their status (jobs/adoption.py).
MISPLACED = (
    "(CASE status WHEN 'queued' THEN stage IS NULL OR stage = 'running' "
    "WHEN 'running' THEN stage IS NULL OR stage <> 'running' ELSE stage IS NOT NULL END)"
)


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
    owner = fields.CharField(max_length=36, null=True)  # the id of the API key that made it
    callback_url = fields.CharField(max_length=2048, null=True)
    callback_events = fields.CharField(max_length=200, null=True)  # the types of what is sent there, comma-separated
    # Where the job is on its way to a worker: jobs/queue.py. None: it has ended.
    stage = fields.CharField(max_length=7, null=True)
    turn = fields.BigIntField(null=True)  # a ready job's place among those of its priority, whoever owns them
    slot = fields.CharField(max_length=300, null=True)  # at most `slot_limit` jobs of one slot run at once
    slot_limit = fields.IntField(null=True)
    bytes = fields.BigIntField(default=0, db_default=0)  # of all the texts that are stored for it: jobs/usage.py

    class Meta:
        table = "jobs"
        indexes = (
            Index(fields=("owner", "id"), name="jobs_owner"),
            Index(fields=("owner", "status", "id"), name="jobs_owner_status"),
            Index(fields=("task", "id"), name="jobs_task"),
            Index(fields=("status", "id"), name="jobs_status"),
            # Of the jobs in one stage alone: a job is written three times at least, each time to every index that has it.
            PartialIndex(fields=("task", "urgency", "turn", "id"), name="jobs_ready", where="stage = 'ready'"),
            PartialIndex(fields=("owner", "urgency", "turn"), name="jobs_turn", where="stage = 'ready'"),
            PartialIndex(fields=("run_at", "id"), name="jobs_delayed", where="stage = 'delayed'"),
            PartialIndex(fields=("started_at", "id"), name="jobs_began", where="stage = 'delayed'"),
            PartialIndex(
                fields=("slot", "stage", "urgency", "owner", "id"), name="jobs_slot", where="slot IS NOT NULL"
            ),
            PartialIndex(fields=("expires_at",), name="jobs_expiry", where="expires_at IS NOT NULL"),
            PartialIndex(fields=("id",), name="jobs_misplaced", where=MISPLACED),
            PartialIndex(fields=("task", "id"), name="jobs_paused", where="stage = 'paused'"),
            PartialIndex(fields=("retry_of", "id"), name="jobs_retries", where="retry_of IS NOT NULL"),
        )


class JobTurn(Model):
    """The turn that claims have reached in each priority."""

    urgency = fields.SmallIntField(primary_key=True, generated=False)
    turn = fields.BigIntField()

    class Meta:
        table = "job_turns"


class JobUsage(Model):
    """What the jobs of one owner take up, of the API key of this id or, under the empty name, of callers without one."""

    owner = fields.CharField(max_length=36, primary_key=True)
    unfinished = fields.BigIntField()
    jobs = fields.BigIntField()
    bytes = fields.BigIntField()

    class Meta:
        table = "job_usage"


class JobAttempt(Model):
    """One attempt of a job that has ended."""

    id = fields.BigIntField(primary_key=True)
    job_id = fields.CharField(max_length=36)
    number = fields.IntField()
    started_at = fields.CharField(max_length=27)
    finished_at = fields.CharField(max_length=27)
    outcome = fields.CharField(max_length=9)
    error = fields.TextField(null=True)
    traceback = fields.TextField(null=True)  # of a fault of the code, for admins

    class Meta:
        table = "job_attempts"
        unique_together = (("job_id", "number"),)


class JobEvent(Model):
    """What happened to a job, numbered from 1 in each job. `txid` and `id` order the events of all jobs."""

    id = fields.BigIntField(primary_key=True)
    job_id = fields.CharField(max_length=36)
    number = fields.IntField()
    name = fields.CharField(max_length=20)
    data = fields.TextField()
    created_at = fields.CharField(max_length=27)
    # The transaction that wrote it; PostgreSQL's default, set by migration 0011. 0 on SQLite, and in rows of older versions.
    txid = fields.BigIntField(db_default=0)

    class Meta:
        table = "job_events"
        unique_together = (("job_id", "number"),)
        indexes = (PartialIndex(fields=("txid", "id"), name="job_events_order", where="txid > 0"),)


class JobBulk(Model):
    """How far a bulk job is: jobs/bulk.py."""

    job_id = fields.CharField(max_length=36, primary_key=True)
    matched = fields.BigIntField()
    done = fields.BigIntField()
    status = fields.CharField(max_length=9)  # of the jobs that it visits
    last_id = fields.CharField(max_length=36)  # the last one that it has visited

    class Meta:
        table = "job_bulks"


class JobTombstone(Model):
    """What is left of a job that has expired."""

    id = fields.CharField(max_length=36, primary_key=True)
    task = fields.CharField(max_length=200)
    finished_at = fields.CharField(max_length=27)
    expires_at = fields.CharField(max_length=27, db_index=True)
    owner = fields.CharField(max_length=36, null=True)

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
    owner = fields.CharField(max_length=36, db_default="")  # the id of the API key, '' for callers without one
    bytes = fields.BigIntField(db_default=0)  # counted in job_usage until the row is deleted

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


class TaskState(Model):
    """What operators and schedules have done to a task: jobs/pauses.py."""

    name = fields.CharField(max_length=200, primary_key=True)
    paused_at = fields.CharField(max_length=27, null=True)
    resumed_at = fields.CharField(max_length=27, null=True)
    last_run_at = fields.CharField(max_length=27, null=True)

    class Meta:
        table = "task_states"


class Worker(Model):
    """A process that runs jobs. Its `beat` grows as long as it answers."""

    id = fields.CharField(max_length=36, primary_key=True)
    beat = fields.BigIntField()
    started_at = fields.CharField(max_length=27)
    last_beat_at = fields.CharField(max_length=27, null=True)
    host = fields.CharField(max_length=255, null=True)
    pid = fields.BigIntField(null=True)
    engine = fields.CharField(max_length=11, null=True)

    class Meta:
        table = "workers"


class MinuteFigures(Model):
    """What one process has counted in one minute, as JSON: observability/minutes.py."""

    id = fields.BigIntField(primary_key=True)
    minute = fields.IntField()  # since 1970, UTC
    process = fields.CharField(max_length=36)
    figures = fields.TextField()

    class Meta:
        table = "figures"
        unique_together = (("minute", "process"),)


class ApiKey(Model):
    """Who may use the service. Only a digest of the key is kept. A revoked key stays, so that its jobs have a name."""

    id = fields.CharField(max_length=36, primary_key=True)
    name = fields.CharField(max_length=100, unique=True)
    digest = fields.CharField(max_length=64)
    scopes = fields.CharField(max_length=50)  # comma-separated
    version = fields.BigIntField(db_index=True)  # grows with every change to any key: tells a process to read them anew
    created_at = fields.CharField(max_length=27)
    expires_at = fields.CharField(max_length=27, null=True)
    revoked_at = fields.CharField(max_length=27, null=True)
    last_used_at = fields.CharField(max_length=27, null=True)

    class Meta:
        table = "api_keys"


class AccessToken(Model):
    """What stands for a key for a while: a browser's session, or a ticket that is good for one request."""

    digest = fields.CharField(max_length=64, primary_key=True)
    kind = fields.CharField(max_length=7)
    key_id = fields.CharField(max_length=36)
    session = fields.CharField(max_length=64, null=True)  # digest of the session that a ticket was issued to
    expires_at = fields.CharField(max_length=27, db_index=True)

    class Meta:
        table = "access_tokens"


class WebhookSecret(Model):
    """What callbacks are signed with, for one key, or for the service where there is none. As it is: signing needs it."""

    id = fields.BigIntField(primary_key=True)
    key_id = fields.CharField(max_length=36, db_index=True, default="")
    secret = fields.CharField(max_length=100)
    created_at = fields.CharField(max_length=27)
    expires_at = fields.CharField(max_length=27, null=True)  # set when the next one is made

    class Meta:
        table = "webhook_secrets"


class Delivery(Model):
    """A callback to be sent. `id` orders them as their events were committed."""

    id = fields.BigIntField(primary_key=True)
    message_id = fields.CharField(max_length=40, unique=True)  # the webhook-id, of all tries
    job_id = fields.CharField(max_length=36, db_index=True)
    owner = fields.CharField(max_length=36, null=True)  # the id of the API key; '' for a job without one, never null
    url = fields.CharField(max_length=2048)
    origin = fields.CharField(max_length=300)
    type = fields.CharField(max_length=20)
    body = fields.TextField()
    traceparent = fields.CharField(max_length=55, null=True)
    status = fields.CharField(max_length=9)
    tries = fields.IntField(default=0)  # since it was made, or was last replayed: what the schedule counts
    created_at = fields.CharField(max_length=27)
    next_attempt_at = fields.CharField(max_length=27, null=True)
    set_at = fields.CharField(max_length=27, db_default="")  # when next_attempt_at was written
    expires_at = fields.CharField(max_length=27, null=True, db_index=True)
    forced = fields.SmallIntField(db_default=0)  # 1: sent although its key is revoked, because an admin replayed it

    class Meta:
        table = "callback_deliveries"
        indexes = (
            Index(fields=("origin", "owner", "status", "id"), name="callback_deliveries_queue"),
            # For lists, newest first.
            Index(fields=("owner", "id"), name="callback_deliveries_owner"),
            Index(fields=("owner", "status", "id"), name="callback_deliveries_owner_status"),
            Index(fields=("status", "id"), name="callback_deliveries_status"),
            Index(fields=("origin", "id"), name="callback_deliveries_origin"),
        )


class DeliveryAttempt(Model):
    """One try of a delivery: what the target answered, or why there was no answer."""

    id = fields.BigIntField(primary_key=True)
    message_id = fields.CharField(max_length=40)
    number = fields.IntField()
    at = fields.CharField(max_length=27)
    status = fields.SmallIntField(null=True)
    error = fields.TextField(null=True)
    body = fields.TextField(null=True)

    class Meta:
        table = "callback_attempts"
        unique_together = (("message_id", "number"),)


class CallbackQueue(Model):
    """The callbacks of one key to one origin. One worker at a time sends to an origin, at `next_at` the earliest."""

    id = fields.BigIntField(primary_key=True)
    owner = fields.CharField(max_length=36)  # the id of the API key, '' for jobs without one
    origin = fields.CharField(max_length=300)
    worker = fields.CharField(max_length=36, null=True)
    next_at = fields.CharField(max_length=27, null=True)  # null: nothing to send
    set_at = fields.CharField(max_length=27)  # when next_at was written
    failures = fields.IntField(default=0)  # tries in a row that failed: what the breaker counts
    failing = fields.SmallIntField(default=0)  # 1 where failures > 0: a column, so that the claim's index has it
    open_until = fields.CharField(max_length=27, null=True)  # nothing is sent before; next_at is never earlier

    class Meta:
        table = "callback_queues"
        unique_together = (("owner", "origin"),)
        indexes = (
            Index(fields=("owner", "worker", "failing", "next_at"), name="callback_queues_claim"),
            Index(fields=("origin", "worker", "next_at"), name="callback_queues_origin"),
            Index(fields=("worker", "next_at"), name="callback_queues_due"),
            Index(fields=("set_at",), name="callback_queues_set"),
        )


class DisabledTarget(Model):
    """A callback URL that answered 410: nothing is sent there until a replay."""

    digest = fields.CharField(max_length=64, primary_key=True)
    url = fields.CharField(max_length=2048)
    disabled_at = fields.CharField(max_length=27)

    class Meta:
        table = "callback_disabled_targets"


class EngineMigration(Model):
    """A step of the schema of the distributed engine that this database has: jobs/engine_schema.py."""

    name = fields.CharField(max_length=200, primary_key=True)
    applied_at = fields.CharField(max_length=27)

    class Meta:
        table = "engine_migrations"
