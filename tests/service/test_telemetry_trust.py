"""What callers decide about traces, and what they do not."""

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


def begun(sampler: Sampler, flags: str, *, trust: bool) -> RequestTrace:
    """The trace of a request whose caller sends a sampling flag and the pin."""
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
def test_the_callers_trace_goes_on(flags: str, trust: bool) -> None:
    """Trace and parent are the caller's in any case."""
    request = begun(DEFAULT_ON, flags, trust=trust)

    assert (request.trace_id_hex, request.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(("sampler", "own"), [(DEFAULT_ON, True), (ALWAYS_ON, True), (NONE, False)])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_strangers_flag_and_pin_can_be_ignored(sampler: Sampler, own: bool, flags: str) -> None:
    """The service's sampler decides as for a trace of its own, and nothing is pinned."""
    request = begun(sampler, flags, trust=False)

    assert bool(request.trace_flags & TraceFlags.SAMPLED) is own
    assert not request.pinned


@pytest.mark.parametrize("flags", ["00", "01"])
def test_by_default_the_caller_decides(flags: str) -> None:
    """Its flag counts, and so does its pin."""
    request = begun(DEFAULT_ON, flags, trust=True)

    assert (request.trace_flags & TraceFlags.SAMPLED, request.pinned) == (int(flags), True)


@pytest.mark.parametrize("remote", [True, False])
def test_the_sdk_decides_by_itself_on_remote_parents_only(remote: bool) -> None:
    """A span below one of this process follows it."""
    provider = TracerProvider(sampler=IgnoreRemoteParent(DEFAULT_ON), shutdown_on_exit=False)
    parent = SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=remote, trace_flags=TraceFlags(0))
    span = provider.get_tracer("x").start_span("x", trace.set_span_in_context(NonRecordingSpan(parent)))

    assert span.is_recording() is remote
    assert span.get_span_context().trace_id == parent.trace_id
