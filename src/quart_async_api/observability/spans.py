"""Spans for OpenTelemetry, by its own packages: imported only where the standard OTEL_* variables ask for them.

A span is written when it has ended, under the ids that its `traceparent` has had all along. The service makes them itself, so a
trace is whole with and without OpenTelemetry.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from .. import __version__
from .tracing import Kind, Span, set_recorder

log = logging.getLogger(__name__)

_KINDS = {Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT, Kind.CONSUMER: SpanKind.CONSUMER}
_CLOSE_SECONDS = 1.0  # for the last spans, when the process stops


class _GivenIds(IdGenerator):
    """The ids of the span that is written next."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Spans:
    """Writes spans to an exporter, in batches and from a thread of its own. `sampler` and limits come from OTEL_* variables."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._ids = _GivenIds()
        name = {} if OTEL_SERVICE_NAME in os.environ else {SERVICE_NAME: "quart-async-api"}
        resource = Resource.create({**name, SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("quart_async_api", __version__)
        self._lock = threading.Lock()

    def samples(self, trace_id: str) -> bool:
        decision = self._provider.sampler.should_sample(None, int(trace_id, 16), "").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def record(self, span: Span) -> None:
        _, trace_id, span_id, flags = span.traceparent.split("-")[:4]
        if not int(flags, 16) & TraceFlags.SAMPLED:
            return
        try:
            with self._lock:  # the ids are read in `start_span`
                self._ids.trace_id, self._ids.span_id = int(trace_id, 16), int(span_id, 16)
                written = self._tracer.start_span(
                    span.name,
                    _context(span.parent),
                    _KINDS[span.kind],
                    span.attributes,
                    start_time=span.began,
                    set_status_on_exception=False,
                )
            if span.error is not None:
                written.set_status(Status(StatusCode.ERROR))
                written.set_attribute("error.type", span.error)
            written.end(span.ended)
        except Exception:
            log.exception("a span of %s cannot be written", span.name)

    def close(self) -> None:
        """Send what is left. An exporter that does not answer is waited for a second."""
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def _context(parent: str | None) -> Context:
    if parent is None:
        return Context()
    _, trace_id, span_id, flags = parent.split("-")[:4]
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _spans() -> Spans | None:
    chosen = exporter()
    return None if chosen is None else Spans(chosen)


def exporter() -> SpanExporter | None:
    """Return the exporter that OTEL_TRACES_EXPORTER names: otlp over HTTP, or console; None for `none` and unknown ones."""
    match os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower():
        case "otlp":
            if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") not in ("http/protobuf", "http"):
                log.warning("spans are sent by OTLP over HTTP: OTEL_EXPORTER_OTLP_PROTOCOL has to be http/protobuf")
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        case "console":
            return ConsoleSpanExporter()
        case "none" | "":
            return None
        case other:
            log.warning("no spans are written: OTEL_TRACES_EXPORTER is %r, and there are otlp, console and none", other)
            return None


@asynccontextmanager
async def write_spans() -> AsyncIterator[None]:
    """Write the spans of the process inside, as the OTEL_* variables say."""
    spans = await asyncio.to_thread(_spans)  # reads files
    if spans is None:
        yield
        return
    set_recorder(spans)
    try:
        yield
    finally:
        set_recorder(None)
        await asyncio.to_thread(spans.close)
