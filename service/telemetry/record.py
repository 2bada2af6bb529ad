"""What one request leaves behind: a tuple of plain values that crosses a pipe.

Everything that telemetry says of a prediction (spans, log records, metric points, log lines) can be made from it, so
the service only writes it down, and whoever has time makes the rest. Times are nanoseconds since the Unix epoch; IDs
are bytes, as OTLP has them.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from service.telemetry.names import (
    ML_FEATURE_NAME,
    ML_MODEL_NAME,
    ML_MODEL_VERSION,
    ML_VIOLATION_ACTION,
    ML_VIOLATION_REASON,
    ML_VIOLATION_ROWS,
)

Value = str | float | int | bool | None

# The loggers whose records are made of these, here and beside the service; over OTLP they are scopes.
AUDIT_LOGGER = "modeltrace.audit"
ACCESS_LOGGER = "uvicorn.access"
DATA_LOGGER = "modeltrace.data"

# Kinds of violations of one request that its trace and its log tell, each by itself; all of them are counted.
TOLD: Final = 32


class Failure(NamedTuple):
    """An exception, as its span tells it."""

    stage: str  # the span that it ended: one of the SPAN_* names, or "" for the SERVER span
    error_type: str  # `error.type` of that span; "" leaves it out
    exception_type: str  # qualified, as `exception.type` has it
    message: str
    stacktrace: str
    time: int


class Violated(NamedTuple):
    """One way in which rows of a request broke the feature schema."""

    feature: str  # "" where it is none of the model's, whose names are up to the client, or no row at all
    reason: str  # as in `service.errors.Violation`
    let_through: bool  # the schema has it counted, not refused
    rows: int

    @property
    def action(self) -> str:
        """What the schema does about it, in one word."""
        return "counted" if self.let_through else "rejected"

    def series(self) -> dict[str, str]:
        """What a metric point says of it."""
        name = {ML_FEATURE_NAME: self.feature} if self.feature else {}
        return {**name, ML_VIOLATION_REASON: self.reason, ML_VIOLATION_ACTION: self.action}

    def attributes(self) -> dict[str, str | int]:
        """What a span event and a log record say of it."""
        return {**self.series(), ML_VIOLATION_ROWS: self.rows}

    def message(self) -> str:
        """The same in words."""
        return f"{self.feature or 'none of the features'}: {self.reason}, {self.action}, rows: {self.rows}"


class Answered(NamedTuple):
    """One answered row: `label` and `confidence` of a classifier, or `value` of a regressor."""

    row: int  # its place in the request, from 0
    prediction_id: str
    label: Value
    confidence: float | None
    value: float | None
    inputs: tuple[Value, ...]  # in the order of the schema, None where there was none; then as `Rules` tell it
    time: int


class Rules(Protocol):
    """What may be told of a model's inputs: `service.inference.privacy.Privacy`."""

    def rows(self, answered: "Sequence[Answered]", /) -> "Sequence[Answered]":
        """Answered rows as they may be told."""

    def request(self, record: "Request", /) -> "Request":
        """A request as it may be told."""

    def error(self, error: Exception, /) -> Exception:
        """An exception as it may be told."""


class Batch(NamedTuple):
    """One call of the model that answered several requests."""

    trace_id: bytes
    span_id: bytes
    start: int
    end: int
    rows: int
    error_type: str  # "" when it succeeded
    members: tuple[tuple[bytes, bytes], ...]  # trace and span ID of each request; sampled ones only


class Request(NamedTuple):
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
    reached_model: bool  # false: the body was no rows at all, and the span says nothing of the model
    many: bool  # whether rows were asked for as a batch (POST /predict/batch)
    rows: int
    rejected: int
    batch: tuple[bytes, bytes] | None  # trace and span ID of the Batch that answered it
    violations: tuple[Violated, ...]
    failure: Failure | None
    answered: tuple[Answered, ...]


class ModelInfo(NamedTuple):
    """What telemetry says of a model."""

    name: str
    version: str
    hash: str
    features: tuple[str, ...]  # names of those that may be told, in the order of `Answered.inputs` once they are

    def attributes(self) -> dict[str, str]:
        """What its metric points carry."""
        return {ML_MODEL_NAME: self.name, ML_MODEL_VERSION: self.version}


class Origin(NamedTuple):
    """What is the same for every record of one process: sent once, before the first record."""

    resource: bytes  # an OTLP Resource message
    scope: str  # of the spans and metrics
    model_name: str
    model_version: str
    model_hash: str
    features: tuple[str, ...]  # names, in the order of `Answered.inputs`


def model_of(origin: Origin) -> ModelInfo:
    """The model whose records an origin is of."""
    return ModelInfo(origin.model_name, origin.model_version, origin.model_hash, origin.features)


def plain(record: Request | Batch) -> tuple[object, ...]:
    """A record as `marshal` takes it, which knows tuples but none of their subclasses."""
    if isinstance(record, Batch):
        return tuple(record)
    failure = record.failure and tuple(record.failure)
    return (*record[:-3], tuple(map(tuple, record.violations)), failure, tuple(map(tuple, record.answered)))


def request(fields: tuple[object, ...]) -> Request:
    """The inverse of `plain` for a request."""
    *head, violations, failure, answered = fields
    return Request(  # type: ignore[call-arg]  # mypy cannot count what is unpacked
        *head,  # type: ignore[arg-type]  # as `plain` took them apart
        tuple(map(Violated._make, violations)),  # type: ignore[call-overload]
        Failure(*failure) if isinstance(failure, tuple) else None,
        tuple(map(Answered._make, answered)),  # type: ignore[call-overload]
    )
