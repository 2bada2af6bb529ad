"""Log records of stdlib logging for a request record: predictions, schema violations and the access line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import RequestRecord


@contextmanager
def server_span(request: RequestRecord) -> Iterator[None]:
    """Enter the SERVER span of a request, in which its log records are written."""
    ids = int.from_bytes(request.trace_id), int.from_bytes(request.span_id)
    context = trace.SpanContext(*ids, is_remote=False, trace_flags=trace.TraceFlags(request.trace_flags))
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


def model_attributes(model: ModelInfo | None) -> dict[str, object]:
    """Return the attributes of a model that every log record of its requests has."""
    assert model is not None
    names: dict[str, object] = {"ml.model.name": model.name, "ml.model.version": model.version}
    return {**names, **({"ml.model.role": model.role} if model.role else {}), "ml.model.hash": model.hash}


def prediction_records(request: RequestRecord) -> Iterator[logging.LogRecord]:
    """Yield the prediction log records of a request, one for each predicted row."""
    for row in request.predictions:
        extra: dict[str, object] = {
            "otel.event.name": "ml.prediction",
            **model_attributes(request.model),
            "ml.prediction.id": row.prediction_id,
            "ml.prediction.row": row.row_index,
            "ml.prediction.inputs": dict(zip(request.model.features, row.inputs, strict=True)),  # type: ignore[union-attr]  # asserted above
        }
        if row.value is not None:
            extra["ml.prediction.value"] = row.value
        elif row.label is not None:
            extra["ml.prediction.label"] = str(row.label)
        if row.confidence is not None:
            extra["ml.prediction.confidence"] = row.confidence
        if row.outputs is not None:
            extra["ml.prediction.outputs"] = dict(zip(request.model.outputs, row.outputs, strict=True))  # type: ignore[union-attr]  # see above
        if row.interval is not None:
            extra["ml.prediction.interval.low"], extra["ml.prediction.interval.high"] = row.interval
            if request.model is not None and request.model.interval_level is not None:
                extra["ml.prediction.interval.level"] = request.model.interval_level
        if request.api_key_name:
            extra["enduser.id"] = request.api_key_name
        if request.synthetic:
            extra["modeltrace.synthetic"] = True
        answers = (row.value, row.label, f"{len(row.outputs or ())} outputs")
        answer = next(value for value in answers if value is not None)
        yield _log_record("modeltrace.prediction", row.time, "predicted %s", (answer,), extra)


def data_records(request: RequestRecord) -> Iterator[logging.LogRecord]:
    """Yield the log records of schema violations: one for each of the first 32."""
    for violation in request.violations[:32]:
        extra: dict[str, object] = {
            "otel.event.name": "ml.data.violation",
            **model_attributes(request.model),
            **({"ml.feature.name": violation.feature} if violation.feature else {}),
            "ml.data.violation.reason": violation.reason,
            "ml.data.violation.action": violation.action,
            "ml.data.violation.rows": violation.rows,
        }
        name = violation.feature or "none of the features"
        message = f"{name}: {violation.reason}, {violation.action}, rows: {violation.rows}"
        yield _log_record("modeltrace.data", request.validate_end, "%s", (message,), extra)


def access_record(request: RequestRecord) -> logging.LogRecord:
    """Return the access line of uvicorn."""
    scope: Any = {
        "client": (request.client_address, request.client_port) if request.client_address else None,
        "path": request.path,
        "query_string": _QueryString(request.query),
    }
    arguments = (
        get_client_addr(scope),
        request.method,
        get_path_with_query_string(scope),
        request.http_version,
        request.status,
    )
    return _log_record("uvicorn.access", request.end, '%s - "%s %s HTTP/%s" %d', arguments)


class _QueryString(str):
    """A query string with any text, which uvicorn decodes as if it were bytes."""

    __slots__ = ()

    def decode(self, _: str) -> str:
        """Return the text."""
        return str(self)


def _log_record(
    logger: str, time: int, message: str, arguments: tuple[object, ...], extra: dict[str, object] | None = None
) -> logging.LogRecord:
    record = logging.getLogger(logger).makeRecord(logger, logging.INFO, "", 0, message, arguments, None, extra=extra)
    record.created = time / 1e9
    return record
