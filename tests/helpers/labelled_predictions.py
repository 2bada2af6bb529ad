"""Log records of predictions and of their true labels, as a service exports them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.helpers.otlp_messages import log_request
from tests.helpers.otlp_values import Value, key_values


@dataclass(frozen=True)
class Prediction:
    """One prediction: a label with its confidence, or a value. `truth` is its true label; None without one."""

    number: int
    time_ns: int
    label: str | None = None
    confidence: float | None = None
    value: float | None = None
    truth: str | float | None = None
    synthetic: bool = False
    version: str = "1.0.0"
    shadow_of: int | None = None
    hash: str | None = None


def prediction_logs(predictions: Iterable[Prediction], model: str = "churn") -> ExportLogsServiceRequest:
    """Return the prediction log records, and a label record for each prediction with a true label."""
    records = []
    for row in predictions:
        names: dict[str, Value] = {"ml.model.name": model, "ml.model.version": row.version}
        output: dict[str, Value] = {"ml.prediction.id": _id(row.number)}
        if row.label is not None:
            output["ml.prediction.label"] = row.label
        if row.value is not None:
            output["ml.prediction.value"] = row.value
        more: dict[str, Value] = {"modeltrace.synthetic": True} if row.synthetic else {}
        if row.hash is not None:
            more["ml.model.hash"] = row.hash
        if row.confidence is not None:
            more["ml.prediction.confidence"] = row.confidence
        if row.shadow_of is not None:
            more["ml.prediction.shadow_of"] = _id(row.shadow_of)
        records.append(_record("ml.prediction", row.number, row.time_ns, {**names, **output, **more}))
        if row.truth is not None:
            kind = "label" if isinstance(row.truth, str) else "value"
            truth: dict[str, Value] = {f"ml.feedback.{kind}": row.truth}
            records.append(_record("ml.feedback", row.number, row.time_ns + 1, {**names, **output, **truth}))
    return log_request(*records)


def model_event(
    classes: Sequence[object], time_ns: int, model: str = "churn", version: str = "1.0.0", **more: Value
) -> LogRecord:
    """Return the event `ml.model` of a classifier, with more attributes; `_` in their names stands for a dot."""
    attributes = {name.replace("_", "."): value for name, value in more.items()}
    record = _record("ml.model", 0, time_ns, {"ml.model.name": model, "ml.model.version": version, **attributes})
    record.body.CopyFrom(AnyValue(string_value=json.dumps({"classes": classes, "features": []})))
    return record


def _id(number: int) -> str:
    return f"p2.{number:032x}"


def _record(event: str, number: int, time_ns: int, attributes: dict[str, Value]) -> LogRecord:
    return LogRecord(
        time_unix_nano=time_ns,
        event_name=event,
        trace_id=(number + 1).to_bytes(16),
        span_id=(number + 1).to_bytes(8),
        attributes=key_values(attributes),
    )
