"""A job's events over a WebSocket (RFC 6455), which can cancel it as well."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import from_json
from quart import Blueprint, websocket

from ...access.admissions import Admission
from ...access.audit import record
from ...access.caller import Scope
from ...errors import (
    DatabaseUnavailable,
    JobExpired,
    JobNotFound,
    MessageTooLarge,
    QuotaExceeded,
    ServiceError,
    TooManyStreams,
    Unauthorized,
    Unreadable,
)
from ...problem_types import kind_of, members
from ..contract.documents import Cancel, Message
from ..contract.needs import needs
from ..contract.operations import Messages, socket
from ..delivery.event_stream import Message as Event
from ..delivery.event_stream import messages
from ..guards.access import caller, new_admission, require, state
from ..guards.authentication import authenticate_message
from ..guards.rate_limits import count, header_fields, open_stream
from ..parts import parts
from ..problems import problem_document

blueprint = Blueprint("sockets", __name__)

DONE, GOING_AWAY, TOO_LARGE, UNREADABLE, TRY_AGAIN = 1000, 1001, 1009, 1011, 1013
UNAUTHORIZED, NO_SUCH_JOB, EXPIRED = 3000, 4404, 4410


_KEY_ENDED = "the key or session has ended"
_REASON_LENGTH = 100  # a close frame has 123 bytes for it


class _Watch(BaseModel):
    after: int | None = Field(
        default=None,
        ge=0,
        description="Number of the last received event: only later events are sent. Invalid values are ignored",
    )


_MESSAGES = Messages(
    sent=Message,
    received=Cancel,
    close_codes={
        DONE: "the job has ended",
        GOING_AWAY: "the service is being stopped",
        TOO_LARGE: "the client's message was longer than `QAA_MAX_MESSAGE_BYTES`; an `error` message came before",
        UNREADABLE: "the stored job cannot be read; the reason names what",
        TRY_AGAIN: "the database cannot be used right now",
        UNAUTHORIZED: "the key was revoked or has expired, or the session has ended",
        NO_SUCH_JOB: "no job has this id",
        EXPIRED: "the job has expired",
    },
)


@blueprint.websocket("/jobs/<job_id>/ws")
@needs(Scope.READ)
@socket("Jobs", "Watch a job over a WebSocket", _MESSAGES, query=_Watch, errors=(TooManyStreams,))
async def watch(job_id: str) -> None:
    """Sends each event as `{"event", "id", "data"}`. The client message `{"type": "cancel"}` cancels the job."""
    admission = new_admission()
    with parts().streams.closing(open_stream()), parts().admissions.holding(admission):
        await websocket.accept(headers=header_fields(parts(), state()))
        await websocket.close(*await _watch(job_id, admission))


async def _watch(job_id: str, admission: Admission) -> tuple[int, str]:
    """Send events and read messages until the end. Return the close code and reason."""
    try:
        await parts().store.reading.get(job_id, caller().sees)
        # A group, so that neither outlives the other: the client's end ends both.
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(job_id))
            code, reason = await _tell(job_id, admission)
            listening.cancel()
    except* JobNotFound:
        code, reason = NO_SUCH_JOB, "no job has this id"
    except* JobExpired:
        code, reason = EXPIRED, "the job has expired"
    except* MessageTooLarge:
        code, reason = TOO_LARGE, "the message is too long"
    except* Unauthorized:
        code, reason = UNAUTHORIZED, _KEY_ENDED
    except* Unreadable as unreadable:
        code, reason = UNREADABLE, str(unreadable.exceptions[0])[:_REASON_LENGTH]
    except* DatabaseUnavailable:
        code, reason = TRY_AGAIN, "the database cannot be used right now"
    return code, reason


async def _tell(job_id: str, admission: Admission) -> tuple[int, str]:
    """Send the events until the end. Return the close code and reason."""
    service = parts()
    after = websocket.args.get("after", "")
    seen = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else None
    async for message in messages(service.store, service.feed, service.lifecycle, job_id, seen, admission):
        if admission.has_ended:
            break
        if message is None:
            continue  # the server's own pings keep it alive
        await websocket.send(message.as_text())
        if message.name == "draining":
            return GOING_AWAY, "the service is shutting down"
    return (UNAUTHORIZED, _KEY_ENDED) if admission.has_ended else (DONE, "the job has ended")


async def _listen(job_id: str) -> None:
    """Answer the client's messages, each checked and counted like a request. Raises Unauthorized, MessageTooLarge."""
    most = parts().settings.max_message_bytes
    while True:
        sent = await websocket.receive()
        await authenticate_message(parts(), state())
        try:
            count(parts(), websocket, state())
        except QuotaExceeded as error:
            await _refuse(error)
            continue
        if len(sent.encode() if isinstance(sent, str) else sent) > most:
            too_large = MessageTooLarge(f"a message may be {most} bytes long")
            await _refuse(too_large)
            raise too_large
        problem = await _heed(job_id, sent)
        if problem is not None:
            await _send_error({"detail": problem})


async def _refuse(error: ServiceError) -> None:
    await _send_error(problem_document(kind_of(error), str(error), **members(error)))


async def _heed(job_id: str, sent: str | bytes) -> str | None:
    """Handle a message. Return its error, or None."""
    try:
        wanted = from_json(sent)
    except ValueError:
        return 'send JSON, like {"type": "cancel"}'
    if not isinstance(wanted, dict) or wanted.get("type") != "cancel":
        return 'the only message is {"type": "cancel"}'
    try:
        require(Scope.WRITE)
        await parts().submissions.cancel(job_id, caller())
        record("job.cancel", caller(), job_id, state().trace.request_id)
    except ServiceError as error:
        return str(error)
    return None


async def _send_error(data: Mapping[str, Any]) -> None:
    await websocket.send(Event("error", data).as_text())
