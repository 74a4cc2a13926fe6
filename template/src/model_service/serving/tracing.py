"""Tracing with OpenTelemetry: a span for each request. Imported only where `tracing` is true.

Where spans go, and how many, is said by OpenTelemetry's own variables of the environment, such as
OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Scope

from model_service.serving.logs import Line

_CARRIED = (b"traceparent", b"tracestate", b"baggage")


class Tracing:
    """Begins a span with each request, below that of its caller, and ends it with its log line.

    Requests that have no log line (health, metrics) have no span either.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("model_service")

    def begin(self, scope: Scope) -> None:
        """Begin the span of a request, in the task that answers it."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _CARRIED
        }
        span = self._tracer.start_span("request", extract(carrier), SpanKind.SERVER)
        attach(trace.set_span_in_context(span))

    def end(self, line: Line) -> None:
        """End the span of a request, which has no value of a feature either; its line names it."""
        span = trace.get_current_span()
        told = {
            "http.request.method": line.method,
            "http.route": line.route,
            "http.response.status_code": line.status,
            "request_id": line.request_id,
            "ml.model.name": line.model,
            "ml.model.version": line.version,
            "ml.model.alias": line.alias,
            "ml.outcome": line.outcome,
            "ml.rows": line.rows,
        }
        span.update_name(f"{line.method} {line.route}")
        span.set_attributes({name: value for name, value in told.items() if value is not None})
        if line.status is not None and line.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()
        context = span.get_span_context()
        line.trace_id = trace.format_trace_id(context.trace_id)
        line.span_id = trace.format_span_id(context.span_id)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def exporting(service: str) -> Tracing:
    """Return what sends spans by OTLP over HTTP, in batches and from a thread of its own."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
