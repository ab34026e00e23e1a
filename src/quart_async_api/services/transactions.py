"""Transactions of an app's own code, and the jobs that are written with its rows, or not at all.

Such a job is inserted as the last part of its transaction: what the service locks, such as its counters, is locked for a moment
and in the order of all transactions, however long this one was open.
"""

import asyncio
from collections import ChainMap
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..access.caller import Caller
from ..db.connection import Database
from ..db.failures import translated
from ..errors import DatabaseUnavailable, KeyReused, KeyTaken
from ..jobs.states import JobRecord
from ..jobs.submission import New, Submission
from ..tasks import Task
from .idempotency import Idempotency, JobReply, Key, Reply
from .submissions import Options, Submissions

_REUSED = "this idempotency key came with another job before; make a new one"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was submitted. `replayed`: by an earlier call with the same idempotency key."""

    id: str
    replayed: bool = False


class Transaction:
    """A transaction on the service's database: all of it is written, with its jobs, or none."""

    def __init__(self, outer: "Transaction | None" = None) -> None:
        self._jobs: list[New] = []
        # By digest, fingerprint and job; also those of the outer one, which may get more meanwhile.
        self._keys: MutableMapping[str, tuple[str, str]] = ChainMap({}, outer._keys) if outer else {}
        self._is_open = True

    def _check(self) -> None:
        if not self._is_open:
            raise RuntimeError("this transaction has ended: submit the job inside its `async with` block")

    def _add(self, new: New, key: Key | None) -> None:
        self._check()  # again: it may have ended while the key was looked up
        self._jobs.append(new)
        if key is not None:
            self._keys[key.digest] = key.fingerprint, new.job.id

    def _found(self, key: Key) -> str | None:
        """Return the job that was submitted with the key in this transaction. Raises KeyReused."""
        fingerprint, job_id = self._keys.get(key.digest, (key.fingerprint, None))
        if fingerprint != key.fingerprint:
            raise KeyReused(_REUSED)
        return job_id

    def _join(self, outer: "Transaction") -> None:
        outer._jobs += self._jobs
        outer._keys.update(self._keys)


class Transactions:
    """Opens transactions for an app's own code, and submits jobs in them or by themselves.

    A transaction may be open for half the time that others wait for it; then it is rolled back.
    """

    def __init__(
        self, database: Database, submission: Submission, submissions: Submissions, idempotency: Idempotency
    ) -> None:
        self._database = database
        self._submission = submission
        self._submissions = submissions
        self._idempotency = idempotency
        self._seconds = database.url.patience / 2
        self._open: dict[asyncio.Task[Any], Transaction] = {}  # by their tasks

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Transaction]:
        """Open a transaction; inside one of this task, a savepoint of that.

        Raises DatabaseUnavailable, also if it was open for too long, and at its end what refuses a job: QueueFull,
        QuotaExceeded, KeyTaken. Nothing is written then.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine of one
        if (outer := self._open.get(task)) is not None:
            with translated():
                async with self._database.transaction():
                    with self._held(task, outer) as inner:
                        yield inner
            inner._join(outer)
            return
        if self._database.is_in_transaction:
            self._database.check_transaction()
            raise RuntimeError(
                "a transaction is open that `transaction()` has not opened: end it first"
                if self._database.is_held
                else "this task was started in the transaction of another task: open one there, or start it outside of that"
            )
        with translated():
            async with self._begun():
                async with self._limited():
                    with self._held(task) as mine:
                        yield mine
                committed = await self._submission.insert_within(mine._jobs) if mine._jobs else None
        if committed is not None:
            committed()

    async def submit(
        self,
        task: Task,
        arguments: BaseModel,
        options: Options,
        *,
        caller: Caller,
        key: Key | None,
        transaction: Transaction | None,
    ) -> Submitted:
        """Insert a job, at the end of the transaction if one is given, or find the one that the key has submitted.

        Raises InvalidInput, KeyReused, DatabaseUnavailable; without a transaction also QueueFull, QuotaExceeded, KeyTaken.
        """
        if transaction is None and self._database.is_in_transaction:
            self._database.check_transaction()
            raise RuntimeError("a transaction is open: name it, as in submit(…, in_transaction=tx), or end it first")
        if transaction is not None:
            if not isinstance(transaction, Transaction):
                raise TypeError(
                    f"in_transaction={transaction!r}: name what `transaction()` has opened, as tx in "
                    "`async with transaction() as tx:`"
                )
            transaction._check()
        if key is not None and (found := await self._found(key, transaction)) is not None:
            return Submitted(found, replayed=True)
        new = self._submissions.prepared(
            task, arguments, options, caller=caller, key=None if key is None else JobReply(key, _reply)
        )
        if transaction is not None:
            transaction._add(new, key)
            return Submitted(new.job.id)
        try:
            await self._submissions.insert(new)
        except KeyTaken:  # meanwhile
            if key is None or (found := await self._found(key)) is None:
                raise
            return Submitted(found, replayed=True)
        return Submitted(new.job.id)

    async def _found(self, key: Key, transaction: Transaction | None = None) -> str | None:
        """Return the job that was submitted with the key before. Raises KeyReused, DatabaseUnavailable."""
        found = None if transaction is None else transaction._found(key)
        if found is None and (reply := await self._idempotency.reply(key)) is not None:
            return reply.job_id
        return found

    @contextmanager
    def _held(self, task: asyncio.Task[Any], outer: Transaction | None = None) -> Iterator[Transaction]:
        mine = self._open[task] = Transaction(outer)
        try:
            yield mine
        finally:
            mine._is_open = False
            if outer is None:
                del self._open[task]
            else:
                self._open[task] = outer

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[None]:
        url = self._database.url
        # On SQLite, those who wait take turns. With the file locked, each would wait for its turn, and then for the file.
        limit = asyncio.timeout(url.patience if url.file is not None else None)
        async with AsyncExitStack() as stack:
            try:
                async with limit:
                    await stack.enter_async_context(self._database.transaction())
            except TimeoutError:
                raise DatabaseUnavailable(
                    f"no transaction could begin within {url.patience:g} s: "
                    "others of this process, or another process, hold the file"
                ) from None
            yield

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise DatabaseUnavailable(
                    f"a transaction was open for {self._seconds:g} s, which is the limit: it was rolled back"
                ) from None
            raise


def _reply(job: JobRecord) -> Reply:
    return Reply(202, {}, "", job.id)
