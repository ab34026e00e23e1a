"""The service as an app's own code uses it: jobs, transactions, and a service for a script."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from quart import has_request_context, has_websocket_context

from .access.caller import Caller
from .db.connection import bound_database
from .http.guards.access import caller
from .http.routes.job_inputs import NewJob
from .observability.tracing import RunContext, current
from .service import Role, Service
from .services.idempotency import Key, digest
from .services.submissions import Options
from .services.transactions import Submitted, Transaction
from .tasks import Task
from .validation import checked

if TYPE_CHECKING:
    from .app import App


class _NewJob(NewJob):
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None


@asynccontextmanager
async def transaction() -> AsyncIterator[Transaction]:
    """Open a transaction on the service's database, for the app's tables and for jobs: all of it is written, or none.

    Inside another one of the same task, it is a savepoint. Wait for nothing but the database in it: it is rolled back after
    half of the database URL's `timeout`, 5 s on SQLite and 2.5 s on PostgreSQL. On SQLite nobody else writes meanwhile.
    Raises DatabaseUnavailable, and at its end what refuses one of its jobs: QueueFull, QuotaExceeded, KeyTaken.
    """
    async with _service().transactions.open() as opened:
        yield opened


async def submit(
    task: Task,
    args: Mapping[str, Any] | None = None,
    *,
    priority: int = 0,
    run_at: datetime | None = None,
    delay: float | timedelta | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - of the job's attempts, not of this call
    max_attempts: int | None = None,
    callback_url: str | None = None,
    callback_events: Sequence[str] = (),
    idempotency_key: str | None = None,
    in_transaction: Transaction | None = None,
) -> Submitted:
    """Submit a job from a route, a task or a script. The options are those of `POST /jobs`.

    With `in_transaction`, the job exists if and only if that transaction is committed. Without, it is committed when this
    returns. It belongs to the caller of the route, or to the owner of the running job. The same `idempotency_key`, task,
    arguments and options return the same job.
    Raises InvalidInput, KeyReused, DatabaseUnavailable; without `in_transaction` also QueueFull, QuotaExceeded.
    """
    service = _service()
    if service.tasks.get(task.name) is not task:
        raise RuntimeError(f"the task {task.name!r} is not one of this app: name it in create_app(tasks=[…])")
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    wish = checked(
        _NewJob,
        {
            "task": task.name,
            "priority": priority,
            "run_at": run_at.isoformat() if isinstance(run_at, datetime) else run_at,
            "delay": seconds,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "callback_url": callback_url,
            "callback_events": list(callback_events),
            "idempotency_key": idempotency_key,
        },
    )
    given: object = args or {}
    arguments = service.submissions.arguments(task, dict(given) if isinstance(given, Mapping) else given)
    starts = service.submissions.not_before(wish.delay, wish.run_at)
    callback = service.callbacks.wanted(wish.callback_url, wish.callback_events)
    options = Options(wish.priority, starts, wish.timeout, wish.max_attempts, callback)
    owner = _caller()
    key = None
    if wish.idempotency_key is not None:
        same = digest(wish.model_dump_json(exclude={"idempotency_key"}), arguments.model_dump_json())
        name = digest(owner.key_id or "", "submit", "", wish.idempotency_key)
        key = Key(name, same, service.settings.idempotency_ttl, owner.key_id or "")
    return await service.transactions.submit(
        task, arguments, options, caller=owner, key=key, transaction=in_transaction
    )


@asynccontextmanager
async def open_service(app: "App") -> AsyncIterator["App"]:
    """Connect to the app's database for a script: `submit`, `transaction` and the models work inside.

    Nothing is served, no job runs, and no resource is opened. Raises StartupError.
    """
    if app.service.database.is_open:
        raise RuntimeError("this app is open already: use `submit` and `transaction` as they are")
    app.service.take(Role(serves=False, runs_jobs=False))
    async with app.service.connected():
        with app.service.database.bind():
            yield app


def _service() -> Service:
    database = bound_database()
    if database is None or not isinstance(database.opened_by, Service):
        raise RuntimeError("no service is open here: use a route, a task, or `async with open_service(make_app()):`")
    return database.opened_by


def _caller() -> Caller:
    """Return the owner of a new job: the caller of the route, or the owner of the running job."""
    if has_request_context() or has_websocket_context():
        return caller()
    context = current()
    return Caller(context.owner if isinstance(context, RunContext) else None)
