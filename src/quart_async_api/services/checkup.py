"""What `doctor` looks at: the database, its tables, the workers and the queue."""

import math
from collections.abc import Mapping

from ..db.connection import MIGRATE, Database
from ..db.migration import state
from ..errors import DatabaseUnavailable, StartupError
from ..jobs.liveness import Liveness
from ..jobs.workers import Workers
from ..settings import JobsEngine, Settings
from ..tasks import Task
from .check import Check, listed


class Checkup:
    """One look at everything. It changes nothing. `tasks`: None if they cannot be loaded."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        workers: Workers,
        liveness: Liveness,
        tasks: Mapping[str, Task] | None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._workers = workers
        self._liveness = liveness
        self._tasks = tasks

    async def run(self) -> list[Check]:
        """Return all checks, those that failed too. Checks that need what another one misses are left out."""
        try:
            await self._database.start()
        except StartupError as error:
            return [self._unreachable(error)]
        checks = [Check("database", self._database.location)]
        try:
            checks += await self._checks()
        except DatabaseUnavailable as error:
            checks.append(self._unreachable(error))
        finally:
            await self._liveness.release()
            await self._database.stop()
        return checks

    def _unreachable(self, error: Exception) -> Check:
        migrates = MIGRATE in str(error)
        return Check(
            "database",
            fault=str(error),
            why="no command and no server can work",
            remedy=MIGRATE if migrates else "start the database, or correct QAA_DATABASE_URL",
        )

    async def _checks(self) -> list[Check]:
        if (schema := await self._schema()).fault is not None:
            return [schema, *await self._of_the_backend()]
        checks = [schema, *await self._of_the_backend()]
        if self._settings.jobs_engine is JobsEngine.DISTRIBUTED:
            from . import checkup_tickets

            checks += await checkup_tickets.checks(self._database)
        checks.append(await self._living())
        checks.append(await self._paused())
        return checks if self._tasks is None else [*checks, await self._known(self._tasks)]

    async def _schema(self) -> Check:
        found = await state(self._database)
        if found.unknown:
            return Check(
                "migrations",
                fault=f"the database is newer than this program, by {listed(found.unknown)}",
                why="this version does not start: it does not know these tables",
                remedy="upgrade the program",
            )
        if found.pending:
            return Check(
                "migrations",
                fault=f"the database lacks {listed(found.pending)}",
                why="servers and workers do not start",
                remedy=MIGRATE,
            )
        return Check("migrations", "all are applied")

    async def _of_the_backend(self) -> list[Check]:
        if self._database.url.file is not None:
            from . import checkup_sqlite

            return await checkup_sqlite.checks(self._database, self._database.url.file)
        from . import checkup_postgresql

        return await checkup_postgresql.checks(self._database)

    async def _living(self) -> Check:
        """Is there a process that runs jobs? A lock that is free proves that its worker is dead."""
        found = await self._workers.beats()
        dead = [worker for worker in found if await self._liveness.is_dead(worker, math.inf)]
        [[queued]] = await self._database.rows("SELECT COUNT(*) FROM jobs WHERE status = 'queued' AND stage = 'ready'")
        if dead:
            return Check(
                "workers",
                fault=f"{len(dead)} of {len(found)} processes have died: {listed(dead)}",
                why="their jobs run again only when another process runs jobs",
                remedy="quart-async-api serve, or quart-async-api worker",
            )
        if queued and not found:
            return Check(
                "workers",
                fault=f"{queued} jobs wait, and no process runs jobs",
                why="they wait until one starts",
                remedy="quart-async-api serve, or quart-async-api worker",
            )
        return Check("workers", f"{len(found)} {'process lives' if len(found) == 1 else 'processes live'}")

    async def _paused(self) -> Check:
        """An operator has paused them, so it is no fault."""
        paused = await self._database.rows(
            "SELECT name, paused_at FROM task_states WHERE paused_at IS NOT NULL ORDER BY name"
        )
        since = [f"{name} (since {paused_at[:19]}Z)" for name, paused_at in paused]
        return Check("paused tasks", listed(since) if since else "none")

    async def _known(self, tasks: Mapping[str, Task]) -> Check:
        rows = await self._database.rows(
            "SELECT task, COUNT(*) FROM jobs WHERE status = 'queued' GROUP BY task ORDER BY task"
        )
        foreign = [f"{task} ({count})" for task, count in rows if task not in tasks]
        if foreign:
            return Check(
                "tasks",
                fault=f"jobs are queued for tasks that these settings do not have: {listed(foreign)}",
                why="no process with these settings runs them: they stay queued",
                remedy="add their modules to QAA_TASKS, or quart-async-api jobs cancel ID",
            )
        return Check("tasks", f"{len(tasks)} tasks; all queued jobs are of them")
