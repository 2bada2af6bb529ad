"""Records of one request: named tuples of plain values that can be sent through a pipe.

Spans, log records, metric points and log lines are created from these records. While a request waits, the service only
fills in its record. The thread of the export queue and the sidecar process the record later. Times are nanoseconds
since the Unix epoch. IDs are bytes, as in OTLP.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL

from modeltrace.telemetry.names import (
    ML_FEATURE_NAME,
    ML_VIOLATION_ACTION,
    ML_VIOLATION_REASON,
    ML_VIOLATION_ROWS,
)
from modeltrace.telemetry.records.model_info import ModelInfo

Value = str | float | int | bool | None
# Names and values of tags, in the order of the names.
Tags = tuple[tuple[str, str], ...]
T = TypeVar("T")
# A value for each row of a request, by its index; a mapping if the indices do not start with 0, as in batch scoring.
ByRow = Sequence[T] | Mapping[int, T]

# Loggers of the log records that are created from these records. In OTLP they are instrumentation scopes.
PREDICTION_LOGGER = "modeltrace.prediction"
ACCESS_LOGGER = "uvicorn.access"
DATA_LOGGER = "modeltrace.data"
MODEL_LOGGER = "modeltrace.model"

INVALID_TRACE_ID: Final = bytes(16)
SAMPLED: Final = 1  # the trace flag
# Maximum number of schema violations of one request that become events and log records. Metrics count all.
MAX_VIOLATION_EVENTS: Final = 32


class Failure(NamedTuple):
    """An exception that ended a stage of a request."""

    stage: str  # name of the span that it ended: a SPAN_* constant, or "" for the SERVER span
    error_type: str  # `error.type` of that span; "": none
    exception_type: str  # `exception.type`: qualified
    message: str
    stacktrace: str
    time: int


class SchemaViolation(NamedTuple):
    """One way in which rows of a request violate the feature schema."""

    feature: str  # "": a name that the model does not have, or a row that is not an object
    reason: str  # as in `modeltrace.errors.Violation`
    allowed: bool  # whether the schema allows it, so that it is only counted
    rows: int

    @property
    def action(self) -> str:
        """Value of `ml.data.violation.action`."""
        return "counted" if self.allowed else "rejected"

    def metric_attributes(self) -> dict[str, str]:
        """Return the attributes of a metric point."""
        name = {ML_FEATURE_NAME: self.feature} if self.feature else {}
        return {**name, ML_VIOLATION_REASON: self.reason, ML_VIOLATION_ACTION: self.action}

    def event_attributes(self) -> dict[str, str | int]:
        """Return the attributes of a span event and of a log record."""
        return {**self.metric_attributes(), ML_VIOLATION_ROWS: self.rows}

    def message(self) -> str:
        """Return the body of a log record."""
        return f"{self.feature or 'none of the features'}: {self.reason}, {self.action}, rows: {self.rows}"


class PredictedRow(NamedTuple):
    """One row with its prediction: `label` and `confidence`, or `value`, or `outputs`, or `label` and `outputs`."""

    row_index: int  # its position in the request, from 0
    prediction_id: str
    label: Value
    confidence: float | None
    value: float | None
    inputs: tuple[Value, ...]  # in the order of the schema, None if missing; after redaction, of `ModelInfo.features`
    time: int
    probabilities: Sequence[float] | None = None  # of each of `ModelInfo.classes`; None: not recorded
    outputs: tuple[Value, ...] | None = None  # in the order of `ModelInfo.outputs`
    interval: tuple[float, float] | None = None  # the bounds of the prediction interval; None: it was not computed


class PrivacyRules(Protocol):
    """Redacts inputs by the rules of a feature schema: `modeltrace.inference.privacy.Redactor`."""

    def redact_rows(self, rows: "Sequence[PredictedRow]", /) -> "Sequence[PredictedRow]":
        """Return predicted rows with redacted inputs."""

    def redact_request(self, record: "RequestRecord", /) -> "RequestRecord":
        """Return a request with redacted inputs."""

    def redact_exception(self, error: Exception, /) -> Exception:
        """Return an exception without its message."""


class BatchRecord(NamedTuple):
    """One call of the model for several requests."""

    trace_id: bytes
    span_id: bytes
    start: int
    end: int
    rows: int
    error_type: str  # "": it succeeded
    request_spans: tuple[tuple[bytes, bytes], ...]  # trace and span ID of each sampled request
    model: ModelInfo


class RemoteCall(NamedTuple):
    """A request to a challenger that is another service."""

    url: str
    address: str
    port: int
    status: int  # 0: no response
    error_type: str  # "": it succeeded

    def span_attributes(self) -> dict[str, str | int]:
        """Return the attributes of a CLIENT span, by the HTTP conventions."""
        attributes: dict[str, str | int] = {
            HTTP_REQUEST_METHOD: "POST", URL_FULL: self.url, SERVER_ADDRESS: self.address, SERVER_PORT: self.port,
        }  # fmt: skip
        if self.status:
            attributes[HTTP_RESPONSE_STATUS_CODE] = self.status
        return {**attributes, **({ERROR_TYPE: self.error_type} if self.error_type else {})}


class RequestRecord(NamedTuple):
    """One request to a prediction or feedback route, or one shadow request."""

    trace_id: bytes  # 16 bytes
    span_id: bytes  # 8 bytes
    parent_span_id: bytes  # 8 bytes; empty: none
    parent_remote: bool
    trace_state: str  # value of the header
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
    client_address: str  # "": none (a Unix socket)
    client_port: int
    user_agent: str
    status: int  # 0: the client disconnected before the response began

    # Times of the stages; 0: not reached.
    validate_start: int
    validate_end: int
    features_start: int  # later than validate_end only if the request waited for a batch
    inference_start: int
    inference_end: int
    is_batch: bool  # whether the client sent a list of rows (POST /predict/batch)
    rows: int
    rejected_rows: int
    batch_span: tuple[bytes, bytes] | None  # trace and span ID of the `BatchRecord` that it shared
    # In a shadow request: for each row, the ID of the primary prediction, or None for a rejected row.
    shadow_of: tuple[str | None, ...] | None
    remote_call: RemoteCall | None  # in a shadow request to another service; that service counts its own predictions
    model: ModelInfo | None  # None: no row was validated; the body is invalid, or contains labels
    violations: tuple[SchemaViolation, ...]
    failure: Failure | None
    predictions: tuple[PredictedRow, ...]
    synthetic: bool = False  # generated traffic; metrics of predictions exclude it
    external_ids: ByRow[str | None] | None = None  # for each row, the client's own ID
    tags: Tags = ()  # of all rows
    row_tags: ByRow[Tags] | None = None  # of each row, if its rows have different tags
    api_key_name: str = ""  # of the client; "": it has no key, or one without a name


class Origin(NamedTuple):
    """Resource and scope of all records of one process. Sent once, before the first record."""

    resource: bytes  # an OTLP Resource message
    scope: str  # of the spans and metrics
