"""Counts jobs by status. It reads the sum of all jobs, which exists, and at most MOST entries of an index for each status."""

from typing import NamedTuple

from ..db.connection import Database
from .states import Status

MOST = 1000


class Count(NamedTuple):
    """A number of jobs; if `more`, there are more than this."""

    number: int
    more: bool = False


async def tally(database: Database, seen_by: str | None) -> dict[Status | None, Count]:
    """Return the number of jobs of the owner `seen_by` (`None`: all) in all (`None`) and by status."""
    given: tuple[str, ...] = () if seen_by is None else (seen_by,)
    whose = "" if seen_by is None else "owner = ? AND "
    columns = [f"(SELECT SUM(jobs) FROM job_usage WHERE {whose}1 = 1)"] + [
        f"(SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE {whose}status = '{status.value}' LIMIT {MOST + 1}) AS found)"
        for status in Status
    ]
    [row] = await database.rows(f"SELECT {', '.join(columns)}", *given * len(columns))
    in_all, *found = (int(number or 0) for number in row)
    counts = [Count(min(number, MOST), number > MOST) for number in found]
    if sum(count.more for count in counts) == 1:  # then it is the rest
        rest = in_all - sum(count.number for count in counts if not count.more)
        counts = [Count(max(rest, MOST)) if count.more else count for count in counts]
    return {None: Count(in_all), **dict(zip(Status, counts, strict=True))}
