"""Reads deliveries for callers, with their attempts: those of a job, and a page of all."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ..db.connection import Database
from ..db.group_commit import Rows
from .queues import AT_ONCE

_SHOWN = "message_id, url, type, status, created_at, next_attempt_at"
_TRIED = "a.message_id, a.number, a.at, a.status, a.error, a.body"


class CallbackReading:
    """The committed deliveries of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_job(self, job_id: str) -> list[dict[str, Any]]:
        """Return the deliveries of a job with their attempts, as JSON for callers."""
        deliveries = await self._database.read(
            f"SELECT {_SHOWN} FROM callback_deliveries WHERE job_id = ? ORDER BY id", job_id
        )
        attempts = await self._database.read(
            f"SELECT {_TRIED} FROM callback_attempts a "
            "JOIN callback_deliveries d ON d.message_id = a.message_id WHERE d.job_id = ? ORDER BY a.id",
            job_id,
        )
        return _with_attempts(deliveries, attempts)

    async def page(
        self,
        limit: int,
        seen_by: str | None,
        *,
        before: int | None = None,
        status: str | None = None,
        origin: str | None = None,
        type: str | None = None,
    ) -> list[tuple[int, dict[str, Any]]]:
        """Return at most `limit` deliveries of the owner `seen_by` (`None`: all), newest first, with ids before `before`.

        Each has its id and its JSON for callers, with its attempts and the id of its job.
        """
        wanted = (
            ("owner = ?", seen_by),
            ("status = ?", status),
            ("origin = ?", origin),
            ("type = ?", type),
            ("id < ?", before),
        )
        given = [(condition, value) for condition, value in wanted if value is not None]
        where = " AND ".join(["1 = 1", *(condition for condition, _ in given)])
        deliveries = await self._database.read(
            f"SELECT id, job_id, {_SHOWN} FROM callback_deliveries WHERE {where} ORDER BY id DESC LIMIT ?",
            *(value for _, value in given),
            limit,
        )
        if not deliveries:
            return []
        marks = ", ".join("?" for _ in deliveries)
        attempts = await self._database.read(
            f"SELECT {_TRIED} FROM callback_attempts a WHERE a.message_id IN ({marks})",
            *(row["message_id"] for row in deliveries),
        )
        shown = _with_attempts(deliveries, sorted(attempts, key=lambda row: int(row["number"])))
        return [
            (row["id"], document | {"job_id": row["job_id"]}) for document, row in zip(shown, deliveries, strict=True)
        ]


def _with_attempts(deliveries: Rows, attempts: Rows) -> list[dict[str, Any]]:
    of_each: defaultdict[str, Rows] = defaultdict(list)
    for row in attempts:
        of_each[row["message_id"]].append(row)
    return [_document(row, of_each[row["message_id"]]) for row in deliveries]


def _document(row: Mapping[str, Any], attempts: Rows) -> dict[str, Any]:
    return {
        "id": row["message_id"],
        "url": row["url"],
        "type": row["type"],
        "status": row["status"],
        "next_attempt_at": row["created_at"] if row["next_attempt_at"] == AT_ONCE else row["next_attempt_at"],
        "attempts": [
            {name: attempt[name] for name in ("number", "at", "status", "error", "body")} for attempt in attempts
        ],
    }
