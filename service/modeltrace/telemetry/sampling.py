"""A sampler that ignores the decision of remote callers."""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class IgnoreRemoteParent(Sampler):
    """Samples a span with a remote parent as a root span. The trace ID does not change."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002  the caller's
    ) -> SamplingResult:
        """Call the wrapped sampler without a remote parent."""
        if trace.get_current_span(parent_context).get_span_context().is_remote:
            parent_context = Context()
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Describe the sampler."""
        return f"IgnoreRemoteParent{{{self._sampler.get_description()}}}"
