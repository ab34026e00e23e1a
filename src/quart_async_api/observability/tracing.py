"""What identifies a request or a run: X-Request-ID, and the W3C trace context (section 3) that goes on."""

import os
import random
import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import NamedTuple, Protocol, Self

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_TRACESTATE = re.compile(rb"[\x20-\x7e\t]+")  # what is not is dropped: no header could carry it on


class Kind(StrEnum):
    """The kind of a span, as OpenTelemetry has them."""

    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


class Span(NamedTuple):
    """A span that has ended. `traceparent` has its own ids, `parent` those of its parent; times are nanoseconds since 1970."""

    kind: Kind
    name: str
    traceparent: str
    parent: str | None
    began: int
    ended: int
    attributes: Mapping[str, str | int]
    error: str | None = None


class Recorder(Protocol):
    """Writes the spans of the process."""

    def record(self, span: Span) -> None:
        """Write a span. Raises nothing."""

    def samples(self, trace_id: str) -> bool:
        """Return whether to write the spans of a trace that begins here."""


_recorder: Recorder | None = None


def recorder() -> Recorder | None:
    """Return what writes the spans of this process; None: they are not written."""
    return _recorder


def set_recorder(recorder: Recorder | None) -> None:
    global _recorder
    _recorder = recorder


def is_wanted() -> bool:
    """Return whether the OTEL_* variables ask for spans, and the packages of the extra `observability` are there."""
    names = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return any(map(os.environ.get, names)) and not is_off and find_spec("opentelemetry") is not None


class RequestContext(NamedTuple):
    """`traceparent` names this service's own span, `parent` the caller's; `tracestate` is passed on as it came."""

    request_id: str
    traceparent: str
    tracestate: str | None = None
    parent: str | None = None

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes]) -> Self:
        """Continue the caller's trace and keep its request id; start anew for what is missing or malformed."""
        if b"x-request-id" not in headers and b"traceparent" not in headers:
            fresh = f"{random.getrandbits(320):080x}"  # no secret; `secrets` asks the kernel each time
            begun = "01" if _recorder is None else _flags(fresh[32:64])
            return cls(fresh[:32], f"00-{fresh[32:64]}-{fresh[64:]}-{begun}")
        sent_id = headers.get(b"x-request-id", b"")
        request_id = sent_id.decode("ascii") if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(16)
        match = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
        if match is None or not _is_usable(*match.groups()):
            return cls(request_id, _new_trace())
        _, trace_id, _, flags, _ = match.groups()
        state = headers.get(b"tracestate", b"")
        sampled = int(flags, 16) & 1
        return cls(
            request_id,
            f"00-{trace_id.decode()}-{secrets.token_hex(8)}-{sampled:02x}",
            state.decode("ascii") if _TRACESTATE.fullmatch(state) else None,
            match[0].decode(),
        )

    @property
    def trace_id(self) -> str:
        return self.traceparent.split("-")[1]


@dataclass(slots=True)
class RunContext:
    """One attempt of a job. `parent` is the span that the job follows, or None; `owner` the key whose job it is."""

    job_id: str
    parent: str | None
    owner: str | None = None
    tracestate: str | None = None
    _traceparent: str | None = field(default=None, init=False, repr=False)

    @property
    def traceparent(self) -> str | None:
        """The span of this attempt, made when something asks for it; None without a parent that can be read."""
        if self._traceparent is None:
            self._traceparent = child(self.parent)
        return self._traceparent

    @property
    def trace_id(self) -> str | None:
        return self.traceparent.split("-")[1] if self.traceparent else None


def child(traceparent: str | None) -> str | None:
    """Return a new span of the same trace, or None where there is no trace or it cannot be read."""
    match = _TRACEPARENT.fullmatch((traceparent or "").encode())
    if match is None or not _is_usable(*match.groups()):
        return None
    version, trace_id, _, flags = (part.decode() for part in match.groups()[:4])
    return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"


def _new_trace() -> str:
    fresh = secrets.token_hex(24)
    return f"00-{fresh[:32]}-{fresh[32:]}-{_flags(fresh[:32])}"


def _flags(trace_id: str) -> str:
    return "01" if _recorder is None or _recorder.samples(trace_id) else "00"


def _is_usable(version: bytes, trace_id: bytes, parent_id: bytes, flags: bytes, rest: bytes | None) -> bool:
    # A later version may say more after the part that is known; version 00 may not.
    return (
        version != b"ff"
        and bool(trace_id.strip(b"0"))
        and bool(parent_id.strip(b"0"))
        and not (version == b"00" and rest)
    )


_current: ContextVar[RequestContext | RunContext | None] = ContextVar("quart_async_api_context", default=None)


def enter(context: RequestContext | RunContext) -> None:
    """Make `context` the one of all that runs from here on in this task and the tasks it starts."""
    _current.set(context)


def current() -> RequestContext | RunContext | None:
    """Return the request that is being handled, or the run of a job that is going on."""
    return _current.get()


def request_id() -> str | None:
    """Return the id of the request that is being handled."""
    context = _current.get()
    return context.request_id if isinstance(context, RequestContext) else None


def traceparent_of_job() -> str:
    """Return the span that a new job follows: of the current request or run; else a trace begins with the job."""
    context = _current.get()
    return (context and context.traceparent) or _new_trace()


def outgoing_headers() -> Mapping[str, str]:
    """Return the headers that carry the current trace on to an upstream; none outside of any request or run."""
    context = _current.get()
    if context is None or context.traceparent is None:
        return {}
    # Where spans are written, the call has one of its own.
    traceparent = context.traceparent if _recorder is None else child(context.traceparent) or context.traceparent
    headers = {"traceparent": traceparent}
    if context.tracestate:
        headers["tracestate"] = context.tracestate
    return headers
