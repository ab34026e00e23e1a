"""The console's receiver of callbacks: what a receiver of one's own would do, and a stream for the page that shows it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import cast

from quart import Blueprint, Response, request
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from ..callbacks.inbox import PATH
from ..http.contract.needs import Scope, needs
from ..http.delivery.event_stream import Message, event_stream
from ..http.guards.access import new_admission
from ..http.parts import parts

blueprint = Blueprint("inbox", __name__)

SAMPLE_SECONDS = 0.1
SAMPLES = 5  # in one event


@blueprint.post(f"{PATH}<token>")
@needs(open=True, audited="inbox.receive")
async def receive(token: str) -> ResponseReturnValue:
    """Receive a callback. The sender has no key, but the token."""
    inbox = parts().inbox
    if not inbox.has(token):
        raise NotFound("No page waits for callbacks here: QAA_INBOX is off, or the service was restarted.")
    arrival = await inbox.receive(token, dict(request.headers), cast("bytes", await request.get_data()))
    if arrival.problem is not None:
        raise BadRequest(f"The signature does not verify: {arrival.problem}.")
    return "", 204


@blueprint.get("/console/pulse")
@needs(Scope.READ)
async def pulse() -> Response:
    """Stream the lag of the event loop, and what arrives in the place of callbacks that `inbox` names."""
    service, token = parts(), request.args.get("inbox", "")

    async def beats() -> AsyncIterator[Message]:
        seen = 0
        lags: list[float] = []
        yield Message("inbox", {"open": service.inbox.has(token)})
        while not service.lifecycle.draining.is_set():
            due = time.monotonic() + SAMPLE_SECONDS
            await asyncio.sleep(SAMPLE_SECONDS)
            lags.append(round(1000 * max(0.0, time.monotonic() - due), 2))
            for arrival in service.inbox.arrivals(token, seen):
                seen = arrival.number
                yield Message("callback", asdict(arrival))
            if len(lags) == SAMPLES:
                yield Message("lag", {"at": service.now(), "milliseconds": lags, "running": len(service.runs)})
                lags = []

    return event_stream(beats(), new_admission())
