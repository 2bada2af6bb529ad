"""Which decisions on traces callers may make."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from modeltrace.telemetry.records.trace import RequestTrace, RequestTracer
from modeltrace.telemetry.sampling import IgnoreRemoteParent

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NONE: Sampler = ParentBased(TraceIdRatioBased(0.0))


def start_trace(sampler: Sampler, flags: str, *, trust: bool) -> RequestTrace:
    """Return the trace of a request whose caller sends a sampling flag and pins it."""
    headers = [(b"traceparent", f"00-{TRACE_ID}-{SPAN_ID}-{flags}".encode()), (b"baggage", b"modeltrace.pin=1")]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "http_version": "1.1",
        "headers": headers,
    }
    return RequestTracer(sampler, trust_context=trust).start(scope)[0]


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("trust", [True, False])
def test_the_trace_of_the_caller_is_continued(flags: str, trust: bool) -> None:
    """The trace ID and the parent are the caller's, whether it is trusted or not."""
    request = start_trace(DEFAULT_ON, flags, trust=trust)

    assert (request.trace_id_hex, request.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(("sampler", "sampled"), [(DEFAULT_ON, True), (ALWAYS_ON, True), (NONE, False)])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_flag_and_pin_of_an_untrusted_caller_are_ignored(sampler: Sampler, sampled: bool, flags: str) -> None:
    """The sampler decides as for a root span, and the request is not pinned."""
    request = start_trace(sampler, flags, trust=False)

    assert bool(request.trace_flags & TraceFlags.SAMPLED) is sampled
    assert not request.pinned


@pytest.mark.parametrize("flags", ["00", "01"])
def test_by_default_the_caller_decides(flags: str) -> None:
    """Its sampling flag and its pin are respected."""
    request = start_trace(DEFAULT_ON, flags, trust=True)

    assert (request.trace_flags & TraceFlags.SAMPLED, request.pinned) == (int(flags), True)


@pytest.mark.parametrize("remote", [True, False])
def test_only_remote_parents_are_ignored(remote: bool) -> None:
    """A child of a local span follows the decision of its parent."""
    provider = TracerProvider(sampler=IgnoreRemoteParent(DEFAULT_ON), shutdown_on_exit=False)
    parent = SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=remote, trace_flags=TraceFlags(0))
    span = provider.get_tracer("x").start_span("x", trace.set_span_in_context(NonRecordingSpan(parent)))

    assert span.is_recording() is remote
    assert span.get_span_context().trace_id == parent.trace_id
