"""What `doctor` looks at in the distributed engine: its tables, the settings that it needs there, and its tickets."""

from ..db.connection import Database
from ..jobs import engine_schema, tickets
from .check import Check, listed


async def checks(database: Database) -> list[Check]:
    found = await engine_schema.state(database)
    if found.unknown:
        return [
            Check(
                "engine tables",
                fault=f"they are newer than the installed procrastinate, by {listed(found.unknown)}",
                why="this version does not start: it does not know these tables",
                remedy="upgrade the program",
            )
        ]
    if found.pending:
        return [
            Check(
                "engine tables",
                fault=f"procrastinate's tables lack {len(found.pending)} steps",
                why="servers and workers do not start",
                remedy=engine_schema.MIGRATES,
            )
        ]
    return [Check("engine tables", "all steps are applied"), _plan(found), _triggers(found), *await _tickets(database)]


def _plan(found: engine_schema.EngineState) -> Check:
    if not found.is_planned:
        return Check(
            "engine plan",
            fault=f"{engine_schema.FETCH} may use an old plan: plan_cache_mode is not force_custom_plan",
            why="a plan from the time when the queue was empty reads all of it for each job: 2 to 3 jobs a second",
            remedy=engine_schema.MIGRATES,
        )
    return Check("engine plan", "is made anew for each fetch")


def _triggers(found: engine_schema.EngineState) -> Check:
    if found.triggers:
        return Check(
            "engine triggers",
            fault=f"triggers of procrastinate_jobs are on: {listed(found.triggers)}",
            why="they write three rows more for each job, and notify under a lock that the whole database has once",
            remedy=engine_schema.MIGRATES,
        )
    return Check("engine triggers", "are off")


async def _tickets(database: Database) -> list[Check]:
    [[missing]] = await database.rows(tickets.MISSING)
    [[orphans]] = await database.rows(tickets.ORPHANS)
    stalled = await database.rows(tickets.LEFT)
    return [
        _none_of(missing, "queued jobs", "all have a ticket", "have no ticket", why="no worker finds them"),
        _none_of(
            orphans,
            "tickets",
            "all have a queued job",
            "have no queued job",
            why="each costs a worker one fetch, and does no other harm",
        ),
        _none_of(
            len(stalled),
            "fetched tickets",
            "their workers live",
            f"are of workers without a heartbeat for {tickets.LEFT_SECONDS} s",
            why="these workers have died, or hang",
        ),
    ]


def _none_of(number: int, name: str, seen: str, fault: str, *, why: str) -> Check:
    """Return the check that there are none of what any worker mends by itself."""
    if not number:
        return Check(name, seen)
    remedy = "quart-async-api worker (a worker mends it within seconds; if not, see the log of the workers)"
    return Check(name, fault=f"{number} {fault}", why=why, remedy=remedy)
