"""The trace of one request, collected while the request is answered.

`RequestTrace` collects the fields of a `RequestRecord`. `RequestTracer` starts one from an ASGI scope as
opentelemetry-instrumentation-asgi does: it continues the caller's context, asks the sampler and follows the HTTP
conventions.
"""

import random
from collections.abc import Callable, Sequence
from hmac import compare_digest
from time import perf_counter_ns, time_ns
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.baggage import get_baggage
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import asgi_getter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.http import normalize_user_agent

from modeltrace.telemetry.names import BAGGAGE_PIN, SYNTHETIC
from modeltrace.telemetry.records.prediction import (
    Failure,
    ModelInfo,
    PredictedRow,
    RemoteCall,
    RequestRecord,
    SchemaViolation,
)
from modeltrace.telemetry.sdk.sampling import IgnoreRemoteParent

Scope = Any  # an ASGI scope
ViolationKey = tuple[str, str, bool]  # feature, reason, whether it is let through: see `SchemaViolation`
EMPTY_ID: Final = b""
INVALID_TRACE_ID: Final = bytes(16)
SAMPLED: Final = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID


class RequestTrace:
    """What is written down of one request. Times are nanoseconds since the epoch, by a clock that never steps back."""

    __slots__ = (
        "_ticks", "batch_span", "end", "failure", "features_start", "inference_end", "inference_start",
        "is_batch", "model", "parent_remote", "parent_span_id", "pinned", "predictions", "rejected_rows",
        "remote_call", "rows", "scope", "shadow_of", "shadow_rows", "span_id", "start", "status",
        "synthetic_token", "trace_flags", "trace_id", "trace_state", "validate_end", "validate_start",
        "violations",
    )  # fmt: skip

    def __init__(self, scope: Scope, trace_id: bytes, span_id: bytes, trace_flags: int) -> None:
        self.scope = scope
        self.trace_id = trace_id
        self.span_id = span_id
        self.trace_flags = trace_flags
        self.parent_span_id = EMPTY_ID
        self.parent_remote = False
        self.trace_state = ""
        self.pinned = False
        self.synthetic_token = ""  # the token that its caller marked it with, if that is the right one
        self.start = time_ns()
        self._ticks = self.start - perf_counter_ns()
        self.end = 0
        self.status = 0
        self.validate_start = self.validate_end = self.features_start = self.inference_start = self.inference_end = 0
        self.is_batch = False
        self.rows = self.rejected_rows = 0
        self.batch_span: tuple[bytes, bytes] | None = None
        self.shadow_of: tuple[str | None, ...] | None = None
        self.remote_call: RemoteCall | None = None
        self.model: ModelInfo | None = None  # the one that was asked
        self.violations: dict[ViolationKey, int] = {}  # rows by the way in which they broke the schema
        self.failure: Failure | None = None
        self.predictions: list[PredictedRow] = []
        self.shadow_rows: Sequence[object] | None = None  # as they were sent, for a challenger

    @property
    def synthetic(self) -> bool:
        """Whether the request is synthetic traffic."""
        return bool(self.synthetic_token)

    def now(self) -> int:
        """The time."""
        return self._ticks + perf_counter_ns()

    @property
    def trace_id_hex(self) -> str | None:
        """The trace ID as people see it; `None` where there is no trace."""
        return self.trace_id.hex() if self.trace_id != INVALID_TRACE_ID else None

    def schema_violations(self) -> tuple[SchemaViolation, ...]:
        """In which ways rows broke the feature schema, in the order in which that was found."""
        return tuple(SchemaViolation(*way, rows) for way, rows in self.violations.items())

    def start_shadow(self, span_id: bytes) -> "RequestTrace":
        """The trace of the same rows put to a challenger, below this one's SERVER span."""
        trace = RequestTrace(self.scope, self.trace_id, span_id, self.trace_flags)
        trace.parent_span_id, trace.trace_state, trace.pinned = self.span_id, self.trace_state, self.pinned
        trace.synthetic_token = self.synthetic_token
        answered = {one.row_index: one.prediction_id for one in self.predictions}
        trace.shadow_of = tuple(answered.get(row) for row in range(max(answered, default=-1) + 1))
        return trace

    def to_record(self) -> RequestRecord:
        """All of it, once the request is over."""
        scope = self.scope
        headers = dict(scope["headers"])
        host, port = scope.get("server") or ("0.0.0.0", 80)  # noqa: S104  what the instrumentation says of none
        client = scope.get("client") or ("", 0)
        agent, path = headers.get(b"user-agent"), scope["path"]
        route = path.removeprefix(scope.get("root_path", ""))
        return RequestRecord(
            self.trace_id, self.span_id, self.parent_span_id, self.parent_remote, self.trace_state, self.trace_flags,
            self.pinned, self.start, self.end,
            scope["method"], route, path, scope["query_string"].decode("latin-1"), scope["scheme"],
            scope["http_version"], host if port == 80 else f"{host}:{port}", port or 0, client[0], client[1],
            "" if agent is None else normalize_user_agent(agent) or "", self.status,
            self.validate_start, self.validate_end, self.features_start, self.inference_start, self.inference_end,
            self.is_batch, self.rows, self.rejected_rows, self.batch_span, self.shadow_of, self.remote_call,
            self.model,
            self.schema_violations(), self.failure, tuple(self.predictions), self.synthetic,
        )  # fmt: skip


def propagation_headers(trace: RequestTrace) -> dict[str, str]:
    """The headers of a call that goes on with a trace: below its span, pinned and marked as synthetic if it is."""
    baggage = [*([f"{BAGGAGE_PIN}=1"] if trace.pinned else []), *synthetic_baggage(trace.synthetic_token)]
    marks = {"baggage": ",".join(baggage)} if baggage else {}
    if trace.trace_id == INVALID_TRACE_ID:
        return marks
    said = {"traceparent": f"00-{trace.trace_id.hex()}-{trace.span_id.hex()}-{trace.trace_flags & 0xFF:02x}"}
    if trace.trace_state:
        said["tracestate"] = trace.trace_state
    return {**said, **marks}


def synthetic_baggage(token: str) -> list[str]:
    """The members of the header `baggage` that mark a request as synthetic; none without a token."""
    return [f"{SYNTHETIC}={token}"] if token else []


def verified_synthetic_token(context: Context | None, token: str) -> str:
    """The token, if the baggage of a context has it; a mark with any other value counts for nothing."""
    said = get_baggage(SYNTHETIC, context)
    return token if said is not None and token and compare_digest(str(said).encode(), token.encode()) else ""


class _RequestSpan(NonRecordingSpan):
    """Stands for the SERVER span in the context, so that log records and the spans of others find it."""

    def __init__(self, request: RequestTrace) -> None:
        self._request = request

    def get_span_context(self) -> SpanContext:
        """Built when somebody asks, which for most requests nobody does."""
        request = self._request
        return SpanContext(
            int.from_bytes(request.trace_id),
            int.from_bytes(request.span_id),
            is_remote=False,
            trace_flags=TraceFlags(request.trace_flags),
            trace_state=TraceState.from_header([request.trace_state]) if request.trace_state else None,
        )


class RequestTracer:
    """Starts the trace of a request."""

    def __init__(
        self,
        sampler: Sampler | None,
        random_bits: Callable[[int], int] = random.getrandbits,
        *,
        trust_context: bool = True,
        synthetic_token: str = "",
    ) -> None:
        """Without a sampler there are no traces at all: telemetry is off.

        Without `trust_context`, callers decide neither on sampling nor on pinning; their trace is continued.
        `synthetic_token` marks requests as synthetic; without one no mark counts.
        """
        self._synthetic_token = synthetic_token
        self._sampler = sampler if trust_context or sampler is None else IgnoreRemoteParent(sampler)
        self._trust_context = trust_context
        # The two samplers whose answer is known need not be asked, unless there is a parent.
        self._always = sampler in (ALWAYS_ON, DEFAULT_ON)
        self._bits = random_bits
        self._fields = frozenset(field.lower().encode() for field in propagate.get_global_textmap().fields)

    def start(self, scope: Scope) -> tuple[RequestTrace, Context]:
        """Start the trace of an HTTP request; the context is the one to answer it in."""
        if self._sampler is None:
            request = RequestTrace(scope, INVALID_TRACE_ID, self._new_id(64), 0)
            if any(name == b"baggage" for name, _ in scope["headers"]):
                baggage = propagate.extract(scope, Context(), getter=asgi_getter)
                request.synthetic_token = verified_synthetic_token(baggage, self._synthetic_token)
            return request, Context()
        for name, _ in scope["headers"]:
            if name in self._fields:
                return self._continue(self._sampler, scope)
        request = RequestTrace(scope, self._new_id(128), self._new_id(64), SAMPLED)
        if not self._always:
            self._sample(self._sampler, request, Context(), parent=None)
        return request, trace.set_span_in_context(_RequestSpan(request), Context())

    def start_shadow(self, request: RequestTrace) -> RequestTrace:
        """The trace of what a challenger makes of a request."""
        return request.start_shadow(self._new_id(64))

    def _continue(self, sampler: Sampler, scope: Scope) -> tuple[RequestTrace, Context]:
        """Go on with the caller's trace, if the headers hold one."""
        context = propagate.extract(scope, Context(), getter=asgi_getter)
        parent = trace.get_current_span(context).get_span_context()
        request = RequestTrace(scope, EMPTY_ID, self._new_id(64), SAMPLED)
        if parent.is_valid:
            request.trace_id = parent.trace_id.to_bytes(16)
            request.parent_span_id = parent.span_id.to_bytes(8)
            request.parent_remote = parent.is_remote
            request.trace_flags = parent.trace_flags
        else:
            request.trace_id = self._new_id(128)
        self._sample(sampler, request, context, parent if parent.is_valid else None)
        request.pinned = self._trust_context and get_baggage(BAGGAGE_PIN, context) is not None
        request.synthetic_token = verified_synthetic_token(context, self._synthetic_token)
        return request, trace.set_span_in_context(_RequestSpan(request), context)

    @staticmethod
    def _sample(sampler: Sampler, request: RequestTrace, context: Context, parent: SpanContext | None) -> None:
        name = f"{request.scope['method']} {request.scope['path']}"
        said = sampler.should_sample(context, int.from_bytes(request.trace_id), name, SpanKind.SERVER)
        random_id = TraceFlags.RANDOM_TRACE_ID if parent is None else parent.trace_flags & TraceFlags.RANDOM_TRACE_ID
        request.trace_flags = (TraceFlags.SAMPLED if said.decision is Decision.RECORD_AND_SAMPLE else 0) | random_id
        request.trace_state = said.trace_state.to_header() if said.trace_state else ""

    def _new_id(self, bits: int) -> bytes:
        return (self._bits(bits) or 1).to_bytes(bits // 8)
