"""Server-sent events (WHATWG HTML section 9.2): the events of jobs, resumed by Last-Event-ID."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from quart import Response, request

from ...access.admissions import Admission
from ...errors import JobExpired, JobNotFound
from ...jobs.events import EventFeed, Watcher
from ...jobs.history import Event, Place
from ...jobs.states import JobRecord, Status
from ...jobs.store import JobStore
from ...lifecycle import Lifecycle
from ..contract.documents import EVENT_STREAM
from ..guards.access import caller, new_admission, state
from ..guards.rate_limits import open_stream
from ..parts import parts

KEEPALIVE_SECONDS = 15.0
RETRY_MILLISECONDS = 3000
PAGE = 1000  # events read at once
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(slots=True)
class Message:
    """One event of a stream. `id` is where to resume after it; None: not part of the job's history."""

    name: str
    data: Mapping[str, Any]
    id: str | None = None
    _encoded: bytes | None = field(default=None, repr=False, compare=False)
    _text: str | None = field(default=None, repr=False, compare=False)

    def encode(self) -> bytes:
        """Return its bytes, the same object in each call."""
        if self._encoded is None:
            lines = [f"event: {self.name}", f"data: {json.dumps(self.data)}"]
            if self.id is not None:
                lines.insert(0, f"id: {self.id}")
            self._encoded = ("\n".join(lines) + "\n\n").encode()
        return self._encoded

    def as_text(self) -> str:
        """Return it as a message of a WebSocket, the same object in each call."""
        if self._text is None:
            self._text = json.dumps({"event": self.name, "id": self.id, "data": self.data}, ensure_ascii=False)
        return self._text


@lru_cache(maxsize=16)  # the feed gives all watchers of a job the same event, one event after another
def _message(event: Event) -> Message:
    return Message(event.name, event.data, f"{event.job_id}:{event.number}")


async def messages(
    store: JobStore,
    feed: EventFeed,
    lifecycle: Lifecycle,
    job_id: str,
    after: int | None,
    admission: Admission,
    *,
    quiet: float = KEEPALIVE_SECONDS,
) -> AsyncIterator[Message | None]:
    """Yield the events of a job from its `snapshot`, or after event number `after`; None after `quiet` seconds.

    Ends after the terminal event, with `draining`, or when the admission ends. A reader that falls too far behind gets `resync`
    with the whole document.
    """
    async with feed.watch(job_id, quiet) as watcher:
        admission.wake = watcher.wake
        begun, seen, has_ended = await _begun(store, watcher, job_id, after, admission)
        while begun:  # emptied, so that a stream keeps neither the job nor its document while it waits
            yield begun.pop(0)
        if has_ended:
            return
        while True:
            if watcher.overrun:
                watcher.overrun = watcher.fresh = False
                watcher.take()
                begun, seen, has_ended = await _as_it_is("resync", store, job_id, admission)
                while begun:
                    yield begun.pop(0)
                if has_ended:
                    return
            for event in await _missed(store, watcher, job_id, seen):
                if event.number > seen:
                    seen = event.number
                    yield _message(event)
                    if Status.is_terminal_name(event.name):
                        return
            if lifecycle.draining.is_set():
                yield Message("draining", {"retry_after": RETRY_MILLISECONDS / 1000})
                return
            if admission.has_ended:
                return
            if not watcher.fresh and not watcher.overrun and not await watcher.woken():
                yield None


_Told = tuple[
    list[Message], int, bool
]  # messages, the number of the last event they stand for, whether that is the end


async def _begun(store: JobStore, watcher: Watcher, job_id: str, after: int | None, admission: Admission) -> _Told:
    """Return how a stream begins: with the job as it is, or with nothing if it goes on after event number `after`."""
    job = await store.reading.get(job_id, admission.sees)
    if after is not None and after <= job.last_event:
        return [], after, job.status.is_terminal and after == job.last_event
    watcher.fresh = False  # read after the watch began, so without a gap
    return _shown("snapshot", job)


async def _as_it_is(name: str, store: JobStore, job_id: str, admission: Admission) -> _Told:
    return _shown(name, await store.reading.get(job_id, admission.sees))


def _shown(name: str, job: JobRecord) -> _Told:
    """Return the job's document as an event of this name, followed by its last event if it has ended."""
    document = job.document(whole=False)
    if not job.status.is_terminal:
        return [Message(name, document, f"{job.id}:{job.last_event}")], job.last_event, False
    # A client that loses the connection between the two must get the second: the first has the id of the event before.
    return (
        [
            Message(name, document, f"{job.id}:{job.last_event - 1}"),
            Message(job.status.value, document, f"{job.id}:{job.last_event}"),
        ],
        job.last_event,
        True,
    )


async def _missed(store: JobStore, watcher: Watcher, job_id: str, seen: int) -> list[Event]:
    """Return the events after `seen`: the watcher's, or from the database if one is missing or late."""
    events = [event for event in watcher.take() if event.number > seen]
    if watcher.fresh or any(event.number != number for number, event in enumerate(events, seen + 1)):
        events = await store.history.events(job_id, seen, PAGE)
        watcher.fresh = len(events) == PAGE
    return events


async def all_messages(
    store: JobStore,
    feed: EventFeed,
    lifecycle: Lifecycle,
    seen: Place,
    admission: Admission,
    *,
    quiet: float = KEEPALIVE_SECONDS,
) -> AsyncIterator[Message | None]:
    """Yield the events of all jobs that the caller may see, after place `seen`.

    Ends when the reader leaves, the admission ends, or the service drains.
    """
    async with feed.watch(None, quiet) as watcher:
        admission.wake = watcher.wake
        while True:
            events = watcher.take()
            if watcher.overrun:
                watcher.overrun, watcher.fresh, events = False, False, []
                seen = await store.history.last_place()
                yield Message("resync", {})
            elif watcher.fresh:
                events = await store.history.events_after(seen, PAGE)
                watcher.fresh = len(events) == PAGE
            for event in events:
                if event.place > seen:
                    seen = event.place
                    if admission.sees not in (None, event.owner):
                        continue
                    yield Message(event.name, {**event.data, "job_id": event.job_id}, f"{event.job_id}:{event.number}")
            if lifecycle.draining.is_set():
                yield Message("draining", {"retry_after": RETRY_MILLISECONDS / 1000})
                return
            if admission.has_ended:
                return
            if not watcher.fresh and not watcher.overrun and not await watcher.woken():
                yield None


def _last_event_id() -> str:
    return request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or ""


def _split(last: str) -> tuple[str, int | None]:
    job_id, _, number = last.rpartition(":")
    return job_id, int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None


async def resumed_job(task: str) -> JobRecord | None:
    """Return the job of `task` in a Last-Event-ID: a reconnect must not start a second job. Raises JobExpired."""
    job_id, number = _split(_last_event_id())
    if not job_id or number is None:
        return None
    try:
        job = await parts().store.reading.get(job_id, caller().sees)
    except JobNotFound:
        return None
    except JobExpired as expired:
        if expired.task == task:
            raise
        return None
    return job if job.task == task else None


async def stream(job: JobRecord) -> Response:
    """Return the event stream of a job, or 204, which ends an EventSource, if the caller has seen its last event."""
    service = parts()
    job_id, after = _split(_last_event_id())
    if job_id != job.id or (after is not None and after > job.last_event):
        after = None
    if after is not None and job.status.is_terminal and after >= job.last_event:
        return Response(status=204)
    admission = new_admission()
    told = messages(service.store, service.feed, service.lifecycle, job.id, after, admission)
    headers = {"Location": f"/jobs/{job.id}", "Link": f'</jobs/{job.id}>; rel="monitor"'}
    return event_stream(told, admission, headers)


async def stream_all() -> Response:
    """Return the event stream of all jobs, from now on or after the event that the caller has seen last."""
    service = parts()
    job_id, number = _split(_last_event_id())
    after = None if number is None else await service.store.history.place(job_id, number)
    if after is None:  # found before the answer begins: who has that misses nothing from then on
        after = await service.store.history.last_place()
    admission = new_admission()
    return event_stream(all_messages(service.store, service.feed, service.lifecycle, after, admission), admission)


def reserve_stream() -> None:
    """Reserve the stream of this request, before any other work.

    Raises QuotaExceeded, TooManyStreams.
    """
    state().stream = open_stream()


def event_stream(
    told: AsyncIterator[Message | None], admission: Admission, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a stream of these events while the admission lasts. Raises QuotaExceeded, TooManyStreams."""
    streams, admissions = parts().streams, parts().admissions
    place, state().stream = state().stream or open_stream(), None

    async def body() -> AsyncIterator[bytes]:
        with streams.closing(place), admissions.holding(admission):
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            async for message in told:
                if admission.has_ended:
                    return
                yield b": ping\n\n" if message is None else message.encode()
                del message  # not kept while the stream waits for the next one

    response = Response(body(), 200, {**_HEADERS, **(headers or {})}, content_type=f"{EVENT_STREAM}; charset=utf-8")
    response.timeout = None  # else Quart ends it silently after a minute
    return response
