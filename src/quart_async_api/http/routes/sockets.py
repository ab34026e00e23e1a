"""A job's events over a WebSocket (RFC 6455), which can cancel it as well."""

import asyncio
import json
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import from_json
from quart import Blueprint, websocket

from ...errors import DatabaseUnavailable, JobExpired, JobNotFound, ServiceError
from ..access import caller
from ..documents import Cancel, Message
from ..event_stream import messages
from ..operations import Messages, socket
from ..parts import parts

blueprint = Blueprint("sockets", __name__)

DONE, GOING_AWAY, TRY_AGAIN, NO_SUCH_JOB, EXPIRED = 1000, 1001, 1013, 4404, 4410


class _Watch(BaseModel):
    after: int | None = Field(default=None, ge=0, description="what came after this event; nonsense is ignored")


_MESSAGES = Messages(
    sent=Message,
    received=Cancel,
    close_codes={
        DONE: "the job has ended",
        GOING_AWAY: "the service is being stopped",
        TRY_AGAIN: "the database cannot be used right now",
        NO_SUCH_JOB: "no job has this id",
        EXPIRED: "the job has expired",
    },
)


@blueprint.websocket("/jobs/<job_id>/ws")
@socket("Jobs", "Watch a job over a WebSocket", _MESSAGES, query=_Watch)
async def watch(job_id: str) -> None:
    """`{"event", "id", "data"}` for each event; `{"type": "cancel"}` from the client cancels the job."""
    await websocket.accept()
    try:
        await parts().store.get(job_id, caller().sees)
        # A group, so that neither outlives the other: the client's end ends both.
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(job_id))
            code, reason = await _tell(job_id)
            listening.cancel()
    except* JobNotFound:
        code, reason = NO_SUCH_JOB, "no job has this id"
    except* JobExpired:
        code, reason = EXPIRED, "the job has expired"
    except* DatabaseUnavailable:
        code, reason = TRY_AGAIN, "the database cannot be used right now"
    await websocket.close(code, reason)


async def _tell(job_id: str) -> tuple[int, str]:
    """Send what happens until it is over; what to close with."""
    service = parts()
    after = websocket.args.get("after", "")
    seen = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else None
    async for message in messages(service.store, service.feed, service.lifecycle, job_id, seen, caller().sees):
        if message is None:
            continue  # the server's own pings keep it alive
        await _send({"event": message.name, "id": message.id, "data": message.data})
        if message.name == "draining":
            return GOING_AWAY, "the service is shutting down"
    return DONE, "the job has ended"


async def _listen(job_id: str) -> None:
    while True:
        problem = await _heed(job_id, await websocket.receive())
        if problem is not None:
            await _send({"event": "error", "id": None, "data": {"detail": problem}})


async def _heed(job_id: str, sent: str | bytes) -> str | None:
    """Do what the client asks; what is wrong with it, or None."""
    try:
        wanted = from_json(sent)
    except ValueError:
        return 'send JSON, like {"type": "cancel"}'
    if not isinstance(wanted, dict) or wanted.get("type") != "cancel":
        return 'the only message is {"type": "cancel"}'
    try:
        await parts().submissions.cancel(job_id, caller())
    except ServiceError as error:
        return str(error)
    return None


async def _send(message: dict[str, Any]) -> None:
    await websocket.send(json.dumps(message, ensure_ascii=False))
