"""What one request leaves behind: a tuple of plain values that crosses a pipe.

Everything that telemetry says of a prediction (spans, log records, metric points, log lines) can be made from it, so
the service only writes it down, and whoever has time makes the rest. Times are nanoseconds since the Unix epoch; IDs
are bytes, as OTLP has them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL

from modeltrace.telemetry.names import (
    ML_FEATURE_NAME,
    ML_MODEL_HASH,
    ML_MODEL_NAME,
    ML_MODEL_ROLE,
    ML_MODEL_VERSION,
    ML_PREDICTION_BIN,
    ML_PREDICTION_LABEL,
    ML_VIOLATION_ACTION,
    ML_VIOLATION_REASON,
    ML_VIOLATION_ROWS,
)

Value = str | float | int | bool | None

# The loggers whose records are made of these, here and beside the service; over OTLP they are scopes.
PREDICTION_LOGGER = "modeltrace.prediction"
ACCESS_LOGGER = "uvicorn.access"
DATA_LOGGER = "modeltrace.data"
MODEL_LOGGER = "modeltrace.model"

# Kinds of violations of one request that its trace and its log tell, each by itself; all of them are counted.
MAX_VIOLATION_EVENTS: Final = 32


class ModelInfo(NamedTuple):
    """What telemetry says of a model."""

    name: str
    version: str
    hash: str
    features: tuple[str, ...]  # names of those that may be told, in the order of `PredictedRow.inputs` once they are
    schema_hash: str = ""  # of its feature schema; "" where nobody knows
    role: str = ""  # beside another model: `primary` or `challenger`
    value_edges: tuple[float, ...] = ()  # between the bins of a regressor's values
    low_confidence: float | None = None  # an answer with less is one

    def __hash__(self) -> int:
        """Of what tells two models apart: that of all feature names would be computed again for every record."""
        return hash((self.version, self.hash, self.role))

    def outcome(self, answered: "PredictedRow") -> Value:
        """What an answer is counted as: its label, or the bin that its value falls into."""
        if answered.value is None:
            return answered.label
        return f"{bisect_left(self.value_edges, answered.value):02d}" if self.value_edges else None

    def outcome_attributes(self, answered: "PredictedRow") -> dict[str, str]:
        """The same as a metric point has it."""
        kind = self.outcome(answered)
        return {} if kind is None else {ML_PREDICTION_LABEL if answered.value is None else ML_PREDICTION_BIN: str(kind)}

    def is_low_confidence(self, answered: "PredictedRow") -> bool:
        """Whether an answer has low confidence."""
        least, confidence = self.low_confidence, answered.confidence
        return least is not None and confidence is not None and confidence < least

    def metric_attributes(self) -> dict[str, str]:
        """What its metric points carry."""
        return {ML_MODEL_NAME: self.name, ML_MODEL_VERSION: self.version}

    def span_attributes(self) -> dict[str, str]:
        """What a span of its request carries."""
        return {**self.metric_attributes(), **({ML_MODEL_ROLE: self.role} if self.role else {})}

    def log_attributes(self) -> dict[str, str]:
        """What a log record of its prediction carries."""
        return {**self.span_attributes(), ML_MODEL_HASH: self.hash}


class Failure(NamedTuple):
    """An exception, as its span tells it."""

    stage: str  # the span that it ended: one of the SPAN_* names, or "" for the SERVER span
    error_type: str  # `error.type` of that span; "" leaves it out
    exception_type: str  # qualified, as `exception.type` has it
    message: str
    stacktrace: str
    time: int


class SchemaViolation(NamedTuple):
    """One way in which rows of a request broke the feature schema."""

    feature: str  # "" where it is none of the model's, whose names are up to the client, or no row at all
    reason: str  # as in `modeltrace.errors.Violation`
    allowed: bool  # the schema has it counted, not refused
    rows: int

    @property
    def action(self) -> str:
        """What the schema does about it, in one word."""
        return "counted" if self.allowed else "rejected"

    def metric_attributes(self) -> dict[str, str]:
        """What a metric point says of it."""
        name = {ML_FEATURE_NAME: self.feature} if self.feature else {}
        return {**name, ML_VIOLATION_REASON: self.reason, ML_VIOLATION_ACTION: self.action}

    def event_attributes(self) -> dict[str, str | int]:
        """What a span event and a log record say of it."""
        return {**self.metric_attributes(), ML_VIOLATION_ROWS: self.rows}

    def message(self) -> str:
        """The same in words."""
        return f"{self.feature or 'none of the features'}: {self.reason}, {self.action}, rows: {self.rows}"


class PredictedRow(NamedTuple):
    """One answered row: `label` and `confidence` of a classifier, or `value` of a regressor."""

    row_index: int  # its place in the request, from 0
    prediction_id: str
    label: Value
    confidence: float | None
    value: float | None
    inputs: tuple[Value, ...]  # in the order of the schema, None where there was none; then as `PrivacyRules` tell it
    time: int


class PrivacyRules(Protocol):
    """What may be told of a model's inputs: `modeltrace.inference.privacy.Redactor`."""

    def redact_rows(self, answered: "Sequence[PredictedRow]", /) -> "Sequence[PredictedRow]":
        """Answered rows as they may be told."""

    def redact_request(self, record: "RequestRecord", /) -> "RequestRecord":
        """A request as it may be told."""

    def redact_exception(self, error: Exception, /) -> Exception:
        """An exception as it may be told."""


class BatchRecord(NamedTuple):
    """One call of the model that answered several requests."""

    trace_id: bytes
    span_id: bytes
    start: int
    end: int
    rows: int
    error_type: str  # "" when it succeeded
    request_spans: tuple[tuple[bytes, bytes], ...]  # trace and span ID of each request; sampled ones only
    model: ModelInfo


class RemoteCall(NamedTuple):
    """How another service was asked for an answer."""

    url: str
    address: str
    port: int
    status: int  # 0: none came
    error_type: str  # "" when it answered

    def span_attributes(self) -> dict[str, str | int]:
        """What a CLIENT span says of it, by the HTTP conventions."""
        said: dict[str, str | int] = {
            HTTP_REQUEST_METHOD: "POST", URL_FULL: self.url, SERVER_ADDRESS: self.address, SERVER_PORT: self.port,
        }  # fmt: skip
        if self.status:
            said[HTTP_RESPONSE_STATUS_CODE] = self.status
        return {**said, **({ERROR_TYPE: self.error_type} if self.error_type else {})}


class RequestRecord(NamedTuple):
    """One HTTP request to a prediction route."""

    trace_id: bytes  # 16 bytes
    span_id: bytes  # 8 bytes
    parent_span_id: bytes  # 8 bytes, or none
    parent_remote: bool
    trace_state: str  # as the header has it
    trace_flags: int  # bit 0: sampled, bit 1: the trace ID is random
    pinned: bool
    start: int
    end: int

    method: str
    route: str
    path: str
    query: str
    scheme: str
    http_version: str
    server_address: str
    server_port: int
    client_address: str  # "" where there is none (a Unix socket)
    client_port: int
    user_agent: str
    status: int  # 0: the client went away before the answer began

    # The stages, as far as the request came: 0 for a mark that was not reached.
    validate_start: int
    validate_end: int
    features_start: int  # later than validate_end only when the request waited for a batch
    inference_start: int
    inference_end: int
    is_batch: bool  # whether rows were asked for as a batch (POST /predict/batch)
    rows: int
    rejected_rows: int
    batch_span: tuple[bytes, bytes] | None  # trace and span ID of the Batch that answered it
    # Of a shadow, which nobody waits for: by row, the ID of the prediction that was answered; None: it was refused.
    shadow_of: tuple[str | None, ...] | None
    remote_call: RemoteCall | None  # of a shadow: the service that answered, which counts and tells that by itself
    model: ModelInfo | None  # none: the body was no rows at all, so none was asked
    violations: tuple[SchemaViolation, ...]
    failure: Failure | None
    predictions: tuple[PredictedRow, ...]
    synthetic: bool = False  # generated traffic, marked as such: in no figure


class Origin(NamedTuple):
    """What is the same for every record of one process: sent once, before the first record."""

    resource: bytes  # an OTLP Resource message
    scope: str  # of the spans and metrics


# The models of some records, each once: records name them by these numbers, which mean nothing elsewhere.
Models = dict[int, ModelInfo]


def plain(record: RequestRecord | BatchRecord, models: Models) -> tuple[object, ...]:
    """A record as `marshal` takes it, which knows tuples but none of their subclasses. Its model joins `models`."""
    place = None
    if record.model is not None:
        place = id(record.model)
        models[place] = record.model
    if isinstance(record, BatchRecord):
        return (*record[:-1], place)
    failure = record.failure and tuple(record.failure)
    called = record.remote_call and tuple(record.remote_call)
    return (
        *record[:-6],
        called,
        place,
        tuple(map(tuple, record.violations)),
        failure,
        tuple(map(tuple, record.predictions)),
        record.synthetic,
    )


def request(fields: tuple[object, ...], models: Models) -> RequestRecord:
    """The inverse of `plain` for a request."""
    *head, called, place, violations, failure, answered, synthetic = fields
    return RequestRecord(  # type: ignore[call-arg]  # mypy cannot count what is unpacked
        *head,  # type: ignore[arg-type]  # as `plain` took them apart
        RemoteCall(*called) if isinstance(called, tuple) else None,
        None if place is None else models[place],  # type: ignore[index]
        tuple(map(SchemaViolation._make, violations)),  # type: ignore[call-overload]
        Failure(*failure) if isinstance(failure, tuple) else None,
        tuple(map(PredictedRow._make, answered)),  # type: ignore[call-overload]
        bool(synthetic),
    )


def batch(fields: tuple[object, ...], models: Models) -> BatchRecord:
    """The inverse of `plain` for a batch."""
    *head, place = fields
    return BatchRecord(*head, models[place])  # type: ignore[arg-type, index, call-arg]  # as above
