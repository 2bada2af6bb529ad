"""The trace of one request, collected while the request is answered.

`RequestTrace` collects the fields of a `RequestRecord`. `RequestTracer` starts a trace from an ASGI scope like
opentelemetry-instrumentation-asgi: it continues the caller's context, calls the sampler and follows the HTTP
conventions.
"""

import random
from collections.abc import Callable, Sequence
from hmac import compare_digest
from time import perf_counter_ns, time_ns
from typing import Any, Final, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.baggage import get_baggage
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import asgi_getter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.http import normalize_user_agent

from modeltrace.telemetry.names import BAGGAGE_PIN, SYNTHETIC
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import (
    INVALID_TRACE_ID,
    ByRow,
    Failure,
    PredictedRow,
    RemoteCall,
    RequestRecord,
    SchemaViolation,
    Tags,
)
from modeltrace.telemetry.sampling import IgnoreRemoteParent

Scope = Any  # an ASGI scope
ViolationKey = tuple[str, str, bool]  # feature, reason, whether it is allowed: the first fields of `SchemaViolation`
EMPTY_ID: Final = b""
SAMPLED: Final = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID


# The key of an ASGI scope that contains the name of the API key; absent without a name.
API_KEY_NAME: Final = "modeltrace.api_key_name"


class HTTPRequest(NamedTuple):
    """The parts of an HTTP request that telemetry records. Values are those of the ASGI scope."""

    method: str = ""
    path: str = ""
    root_path: str = ""
    query_string: bytes = b""
    scheme: str = ""
    http_version: str = ""
    server: tuple[str, int | None] | None = None
    client: tuple[str, int] | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    api_key_name: str = ""  # "": the request has no key, or one without a name
    route: str = ""  # the template of a path with parameters; "": the path itself

    @classmethod
    def from_scope(cls, scope: Scope) -> "HTTPRequest":
        """Read an ASGI scope of type `http`."""
        return cls(
            scope["method"], scope["path"], scope.get("root_path", ""), scope.get("query_string", b""),
            scope.get("scheme", "http"), scope["http_version"], scope.get("server"), scope.get("client"),
            scope["headers"], scope.get(API_KEY_NAME, ""),
        )  # fmt: skip


NO_REQUEST: Final = HTTPRequest()


class RequestTrace:
    """The recorded data of one request. Times are nanoseconds since the epoch, from a clock that never steps back."""

    __slots__ = (
        "_ticks", "batch_span", "end", "external_ids", "failure", "features_start", "http", "inference_end",
        "inference_start", "is_batch", "model", "parent_remote", "parent_span_id", "pinned", "predictions",
        "rejected_rows", "remote_call", "row_tags", "rows", "shadow_of", "shadow_rows", "span_id", "start", "status",
        "synthetic_token", "tags", "trace_flags", "trace_id", "trace_state", "validate_end", "validate_start",
        "violations",
    )  # fmt: skip

    def __init__(
        self,
        http: HTTPRequest = NO_REQUEST,
        trace_id: bytes = INVALID_TRACE_ID,
        span_id: bytes = EMPTY_ID,
        trace_flags: int = 0,
    ) -> None:
        """Without arguments, the trace belongs to no request. It can be filled in, but it is not exported."""
        self.http = http
        self.trace_id = trace_id
        self.span_id = span_id
        self.trace_flags = trace_flags
        self.parent_span_id = EMPTY_ID
        self.parent_remote = False
        self.trace_state = ""
        self.pinned = False
        self.synthetic_token = ""  # the valid token in the baggage of the request; "": the request is not synthetic
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
        self.model: ModelInfo | None = None  # of the version that answers
        self.violations: dict[ViolationKey, int] = {}  # number of rows
        self.failure: Failure | None = None
        self.predictions: list[PredictedRow] = []
        self.external_ids: ByRow[str | None] | None = None  # for each row, the client's own ID
        self.tags: Tags = ()  # of all rows
        self.row_tags: ByRow[Tags] | None = None  # of each row, if its rows have different tags
        self.shadow_rows: Sequence[object] | None = None  # all rows as they were sent, for a challenger

    @property
    def synthetic(self) -> bool:
        """Whether the request is synthetic traffic."""
        return bool(self.synthetic_token)

    @property
    def api_key_name(self) -> str:
        """The name of the API key of the request; "" without one."""
        return self.http.api_key_name

    @property
    def trace_id_hex(self) -> str | None:
        """The trace ID in hexadecimal digits; `None` without a trace."""
        return self.trace_id.hex() if self.trace_id != INVALID_TRACE_ID else None

    def now(self) -> int:
        """Return the current time in nanoseconds."""
        return self._ticks + perf_counter_ns()

    def schema_violations(self) -> tuple[SchemaViolation, ...]:
        """Return the violations of the feature schema, in the order in which they were found."""
        return tuple(SchemaViolation(*key, rows) for key, rows in self.violations.items())

    def start_shadow(self, span_id: bytes) -> "RequestTrace":
        """Start the trace of a shadow request. Its span is a child of this request's SERVER span."""
        shadow = RequestTrace(self.http, self.trace_id, span_id, self.trace_flags)
        shadow.parent_span_id, shadow.trace_state, shadow.pinned = self.span_id, self.trace_state, self.pinned
        shadow.synthetic_token = self.synthetic_token
        shadow.external_ids, shadow.tags, shadow.row_tags = self.external_ids, self.tags, self.row_tags
        ids = {row.row_index: row.prediction_id for row in self.predictions}
        shadow.shadow_of = tuple(ids.get(index) for index in range(max(ids, default=-1) + 1))
        return shadow

    def to_record(self) -> RequestRecord:
        """Return the record of a finished request."""
        http = self.http
        # opentelemetry-instrumentation-asgi reports this address if the server has none.
        host, port = http.server or ("0.0.0.0", 80)  # noqa: S104  a value to report, not an address to bind
        client_address, client_port = http.client or ("", 0)
        user_agent = dict(http.headers).get(b"user-agent")
        return RequestRecord(
            self.trace_id, self.span_id, self.parent_span_id, self.parent_remote, self.trace_state, self.trace_flags,
            self.pinned, self.start, self.end,
            http.method, http.route or http.path.removeprefix(http.root_path), http.path,
            http.query_string.decode("latin-1"),
            http.scheme, http.http_version, host if port == 80 else f"{host}:{port}", port or 0, client_address,
            client_port, "" if user_agent is None else normalize_user_agent(user_agent) or "", self.status,
            self.validate_start, self.validate_end, self.features_start, self.inference_start, self.inference_end,
            self.is_batch, self.rows, self.rejected_rows, self.batch_span, self.shadow_of, self.remote_call,
            self.model,
            self.schema_violations(), self.failure, tuple(self.predictions), bool(self.synthetic_token),
            self.external_ids, self.tags, self.row_tags, http.api_key_name,
        )  # fmt: skip


def propagation_headers(request: RequestTrace) -> dict[str, str]:
    """Return the headers that propagate the request's span, pin and synthetic mark to another service."""
    members = [*([f"{BAGGAGE_PIN}=1"] if request.pinned else []), *synthetic_baggage(request.synthetic_token)]
    headers = {"baggage": ",".join(members)} if members else {}
    if request.trace_id == INVALID_TRACE_ID:
        return headers
    headers["traceparent"] = f"00-{request.trace_id.hex()}-{request.span_id.hex()}-{request.trace_flags & 0xFF:02x}"
    if request.trace_state:
        headers["tracestate"] = request.trace_state
    return headers


def synthetic_baggage(token: str) -> list[str]:
    """Return the members of the header `baggage` that mark a request as synthetic; none without a token."""
    return [f"{SYNTHETIC}={token}"] if token else []


def verified_synthetic_token(context: Context | None, token: str) -> str:
    """Return `token` if the baggage of a context contains it, else an empty string."""
    value = get_baggage(SYNTHETIC, context)
    return token if value is not None and token and compare_digest(str(value).encode(), token.encode()) else ""


class _RequestSpan(NonRecordingSpan):
    """The SERVER span in the context: log records and other spans refer to it."""

    def __init__(self, request: RequestTrace) -> None:
        self._request = request

    def get_span_context(self) -> SpanContext:
        """Build the span context. It is not built in advance because most requests never need it."""
        request = self._request
        return SpanContext(
            int.from_bytes(request.trace_id),
            int.from_bytes(request.span_id),
            is_remote=False,
            trace_flags=TraceFlags(request.trace_flags),
            trace_state=TraceState.from_header([request.trace_state]) if request.trace_state else None,
        )


class RequestTracer:
    """Starts the traces of requests."""

    def __init__(
        self,
        sampler: Sampler | None,
        random_bits: Callable[[int], int] = random.getrandbits,
        *,
        trust_context: bool = True,
        synthetic_token: str = "",
    ) -> None:
        """Create a tracer.

        Args:
            sampler: decides which traces are sampled; `None` if telemetry is disabled, so that there are no traces.
            random_bits: generates the IDs.
            trust_context: whether callers decide on sampling and pinning. Their traces are always continued.
            synthetic_token: marks requests as synthetic; if it is empty, no request is synthetic.
        """
        self._synthetic_token = synthetic_token
        self._sampler = sampler if trust_context or sampler is None else IgnoreRemoteParent(sampler)
        self._trust_context = trust_context
        # These two samplers sample every request without a parent, so they are not called for it.
        self._always = sampler in (ALWAYS_ON, DEFAULT_ON)
        self._bits = random_bits
        self._fields = frozenset(field.lower().encode() for field in propagate.get_global_textmap().fields)

    def start(self, scope: Scope) -> tuple[RequestTrace, Context]:
        """Start the trace of an HTTP request. The request must be answered in the returned context."""
        http = HTTPRequest.from_scope(scope)
        if self._sampler is None:
            request = RequestTrace(http, INVALID_TRACE_ID, self._new_id(64), 0)
            if any(name == b"baggage" for name, _ in http.headers):
                baggage = propagate.extract(scope, Context(), getter=asgi_getter)
                request.synthetic_token = verified_synthetic_token(baggage, self._synthetic_token)
            return request, Context()
        for name, _ in http.headers:
            if name in self._fields:
                return self._continue(self._sampler, scope, http)
        request = RequestTrace(http, self._new_id(128), self._new_id(64), SAMPLED)
        if not self._always:
            self._sample(self._sampler, request, Context(), parent=None)
        return request, trace.set_span_in_context(_RequestSpan(request), Context())

    def start_shadow(self, request: RequestTrace) -> RequestTrace:
        """Start the trace of a shadow request with the rows of a finished request."""
        return request.start_shadow(self._new_id(64))

    def _continue(self, sampler: Sampler, scope: Scope, http: HTTPRequest) -> tuple[RequestTrace, Context]:
        """Continue the caller's trace if the headers contain a valid trace context."""
        context = propagate.extract(scope, Context(), getter=asgi_getter)
        parent = trace.get_current_span(context).get_span_context()
        request = RequestTrace(http, EMPTY_ID, self._new_id(64), SAMPLED)
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
        name = f"{request.http.method} {request.http.path}"
        result = sampler.should_sample(context, int.from_bytes(request.trace_id), name, SpanKind.SERVER)
        random_id = TraceFlags.RANDOM_TRACE_ID if parent is None else parent.trace_flags & TraceFlags.RANDOM_TRACE_ID
        request.trace_flags = (TraceFlags.SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else 0) | random_id
        request.trace_state = result.trace_state.to_header() if result.trace_state else ""

    def _new_id(self, bits: int) -> bytes:
        return (self._bits(bits) or 1).to_bytes(bits // 8)
