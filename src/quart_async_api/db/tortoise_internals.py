"""The private parts of Tortoise that all engines share: the context of a task, transactions that survive cancellation, models.

What one engine needs besides is in safe_sqlite.py or safe_psycopg.py. tests/unit/test_internals.py fails when a part
that they build on changes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar, cast
from weakref import WeakSet

from tortoise import Model
from tortoise.backends.base.client import (
    BaseDBAsyncClient,
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.base.executor import EXECUTOR_CACHE, BaseExecutor
from tortoise.connection import get_connections
from tortoise.context import TortoiseContext, _current_context
from tortoise.exceptions import TransactionManagementError

from ..errors import DatabaseUnusable
from .cancellation import finish


class bound:  # noqa: N801 - a context manager
    """Bind the models to this context, in this task and its child tasks.

    Tasks cannot enter a Tortoise context concurrently, because it stores a single token.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, context: TortoiseContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = _current_context.set(self._context)

    def __exit__(self, *error: object) -> None:
        _current_context.reset(self._token)


class SafeContext(TortoiseContext):
    """Tortoise's, with one connection, named after its dialect. Models keep SQL of it: a process has one dialect at a time."""

    _open: ClassVar[WeakSet["SafeContext"]] = WeakSet()
    dialect = ""

    async def init(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        """Raises DatabaseUnusable."""
        [self.dialect] = config["connections"]
        if other := next((each.dialect for each in self._open if each.dialect != self.dialect), None):
            raise DatabaseUnusable(
                f"this process has a {other} database open, so its models cannot be used with {self.dialect} too: "
                "close the first one before, or use a process of its own"
            )
        self._open.add(self)
        await super().init(config=config)

    async def close_connections(self) -> None:
        self._open.discard(self)
        await super().close_connections()


_statements_of: dict[tuple[str, str | None, str], type[Model]] = {}  # by connection, schema and table


class SafeExecutor(BaseExecutor):
    """Keeps the statements of each model for itself. Tortoise takes two models of one table name, in two apps, for one."""

    def __init__(self, model: type[Model], db: BaseDBAsyncClient, *more: Any, **options: Any) -> None:
        key = (db.connection_name, model._meta.schema, model._meta.db_table)
        if _statements_of.get(key) is not model:
            _statements_of[key] = model
            EXECUTOR_CACHE.pop(key, None)
        super().__init__(model, db, *more, **options)


class SafeTransaction(TransactionalDBClient):
    """The client that a task and its child tasks see inside a transaction. After it, all that they do with it is refused."""

    _finalized: bool
    _connection: Any
    _lock: asyncio.Lock

    async def begin(self) -> None:
        await finish(super().begin())  # type: ignore[safe-super]  # of the driver's class, next in line

    async def commit(self) -> None:
        await finish(self._end(super().commit))  # type: ignore[safe-super]

    async def rollback(self) -> None:
        await finish(self._end(super().rollback))  # type: ignore[safe-super]

    async def abandon(self) -> None:
        """Roll back after any error."""
        await self.rollback()

    async def _end(self, end: Callable[[], Awaitable[None]]) -> None:
        async with self._lock:  # after the statement of a child task that runs, and before that of one that waits
            await end()

    @property
    def has_ended(self) -> bool:
        return self._finalized or self._connection is None

    def check(self) -> None:
        """Raise TransactionManagementError if it has ended."""
        if self.has_ended:
            raise TransactionManagementError(
                "the transaction in which this task was started has ended: wait for the task inside the transaction, "
                "or start it after that"
            )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Any]:
        async with self._lock:
            self.check()
            yield self._connection

    def acquire_connection(self) -> AbstractAsyncContextManager[Any]:  # type: ignore[override]
        return self._alone()

    def _in_transaction(self) -> TransactionContext:
        self.check()
        inner = type(self)(self)  # type: ignore[arg-type]
        inner._lock = self._lock
        return NestedTransactionContext(inner)


class SafeClient(BaseDBAsyncClient):
    """A client whose transactions give their connection back, whenever their task is cancelled.

    `holders` are the tasks that have one open.
    """

    _transaction_class: type[SafeTransaction]

    @cached_property
    def holders(self) -> set[asyncio.Task[Any] | None]:
        return set()

    def _in_transaction(self) -> TransactionContext:
        return cast("TransactionContext", self._transaction())

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[TransactionalDBClient]:
        async with self.acquire_connection() as connection:
            client = self._transaction_class(self)  # type: ignore[arg-type]
            client._connection = connection
            holder = asyncio.current_task()
            self.holders.add(holder)
            try:
                await client.begin()
                token = get_connections().set(self.connection_name, client)
                try:
                    yield client
                finally:
                    get_connections().reset(token)
                if not client._finalized:
                    await client.commit()
            except BaseException:
                # A commit that failed included: the database may or may not have ended the transaction itself.
                if not client._finalized:
                    await client.abandon()
                raise
            finally:
                # A task started inside must not join an unrelated transaction later.
                client._connection = None
                self.holders.discard(holder)


def models_in(module: ModuleType) -> Iterator[type[Model]]:
    """Return the models of a module, as Tortoise finds them."""
    for each in getattr(module, "__models__", None) or vars(module).values():
        if isinstance(each, type) and issubclass(each, Model) and each is not Model and not each._meta.abstract:
            yield each


def label_of(model: type[Model]) -> str | None:
    return model._meta.app


def assign(model: type[Model], label: str) -> None:
    """Give a model to a package: Tortoise would give it to the first one whose module imports it."""
    model._meta.app = label


def table_of(model: type[Model]) -> str:
    return model._meta.db_table or model.__name__.lower()


def targets_of(model: type[Model]) -> Iterator[str]:
    """Return the models that the fields of this one refer to, as `label.Model`; not those that refer to it."""
    for field in model._meta.fields_map.values():
        target = getattr(field, "model_name", None)
        if target is not None and not getattr(field, "_generated", False):
            yield target if isinstance(target, str) else f"{target._meta.app}.{target.__name__}"
