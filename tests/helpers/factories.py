"""Request records, and rows of the prediction store, with defaults for what a test does not name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._internal import _encode_resource
from opentelemetry.sdk.resources import Resource

from modeltrace.inference.features import to_matrix
from modeltrace.inference.model import Model
from modeltrace.inference.validate import RowValidator
from modeltrace.store.rows import Row, StoredPrediction
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import Origin, PredictedRow, RequestRecord

TIME: Final = 1_700_000_000_000_000_000
MODEL: Final = ModelInfo("breast-cancer", "1.0.0", "a" * 64, ("radius", "texture", "name"), "b" * 64)
# The resource of the process that `request_record` came from.
RESOURCE = Resource({"service.name": "records", "service.version": "1.2.3", "process.pid": 4711}, schema_url="")


@dataclass(frozen=True)
class AnsweredRequest:
    """An answered request: what the store makes rows of."""

    predictions: Sequence[PredictedRow]
    trace_id: bytes = b"0123456789abcdef"
    span_id: bytes = b"01234567"
    trace_flags: int = 1
    model: ModelInfo | None = MODEL
    shadow_of: Sequence[str | None] | None = None
    synthetic: bool = False
    external_ids: Sequence[str | None] | None = None
    tags: tuple[tuple[str, str], ...] = ()
    row_tags: Sequence[tuple[tuple[str, str], ...]] | None = None
    api_key_name: str = ""


def answered_row(
    prediction_id: str,
    *,
    row: int = 0,
    label: Any = "benign",
    value: float | None = None,
    confidence: float | None = 0.9,
    inputs: Sequence[Any] = (1.5, 2, "x"),
    time: int = TIME,
    probabilities: Sequence[float] | None = None,
) -> PredictedRow:
    """Return an answered row as a request record holds it; `row` is its index in the request."""
    return PredictedRow(row, prediction_id, label, confidence, value, tuple(inputs), time, probabilities)


def answered_request(*prediction_ids: str) -> AnsweredRequest:
    """Return a request with one answered row for each prediction ID."""
    return AnsweredRequest([answered_row(prediction_id) for prediction_id in prediction_ids])


def stored_row(
    prediction_id: str,
    *,
    time: int = TIME,
    trace_id: str | None = None,
    model: ModelInfo = MODEL,
    inputs: str | None = '{"radius":1.5}',
    label: str | None = '"benign"',
    value: float | None = None,
    confidence: float | None = 0.9,
    probabilities: str | None = None,
    tags: str | None = None,
    interval: Sequence[float] = (),
) -> Row:
    """Return a row of the table `predictions`.

    `inputs`, `label`, `probabilities` and `tags` are JSON; `interval` has the two bounds and the level.
    """
    return Row(
        prediction_id, time, trace_id, None, 0, *(True, model.name, model.version, model.hash), "0.1.0", inputs,
        label, value, confidence, probabilities=probabilities, tags=tags,
        **dict(zip(("interval_low", "interval_high", "interval_level"), interval)),  # noqa: B905  or none of them
    )  # fmt: skip


def stored_rows(number: int, prefix: str = "p") -> list[Row]:
    """Return rows of the table `predictions`, a nanosecond apart, their IDs in the same order."""
    return [stored_row(f"{prefix}{index:05}", time=TIME + index) for index in range(number)]


def stored_predictions(model: Model, inputs: Sequence[dict[str, Any]]) -> list[StoredPrediction]:
    """Return what the store holds of one request with these rows, which the model answers."""
    reader = RowValidator(model.schema)
    answers = model.predict(to_matrix([reader.validate(row) for row in inputs], model.schema, as_frame=model.as_frame))
    about = {"model_name": model.name, "model_version": model.version, "model_hash": model.hash, "time": 1}
    return [
        StoredPrediction(**{
            **dict.fromkeys(StoredPrediction._fields), **about, "prediction_id": f"p{index}", "row": index,
            "inputs": row, "label": answer.label, "confidence": answer.confidence, "value": answer.value,
        })
        for index, (row, answer) in enumerate(zip(inputs, answers, strict=True))
    ]  # fmt: skip


def request_record(features: int = 30) -> tuple[Origin, RequestRecord]:
    """Return a process and the record of its request with one row of floats."""
    origin = Origin(
        resource=_encode_resource(RESOURCE).SerializeToString(),
        scope="modeltrace",
    )
    model = ModelInfo(
        name="breast-cancer",
        version="1.0.0",
        hash="9c0d4d033e1c4c65e4aff80a620556b682276882f6d033e6a31842f5b9c3c9fa",
        features=tuple(f"feature_{number}" for number in range(features)),
        schema_hash="4a" * 32,
    )
    inputs = tuple(0.1 + number for number in range(features))
    start = 1_795_545_013_393_236_969
    marks = [start + 100_000 * step for step in range(8)]
    answered = answered_row("AQr3ZRkWzUPdhEjrIRyAMZwTPk_GK0R6swAA", confidence=0.98, inputs=inputs, time=marks[6])
    return origin, RequestRecord(
        trace_id=bytes(range(16)),
        span_id=bytes(range(1, 9)),
        parent_span_id=b"",
        parent_remote=False,
        trace_state="",
        trace_flags=1,
        pinned=False,
        start=start,
        end=marks[7],
        method="POST",
        route="/predict",
        path="/predict",
        query="",
        scheme="http",
        http_version="1.1",
        server_address="127.0.0.1:8000",
        server_port=8000,
        client_address="127.0.0.1",
        client_port=50_000,
        user_agent="python-httpx/0.28.1",
        status=200,
        validate_start=marks[1],
        validate_end=marks[2],
        features_start=marks[2],
        inference_start=marks[3],
        inference_end=marks[4],
        is_batch=False,
        rows=1,
        rejected_rows=0,
        shadow_of=None,
        remote_call=None,
        model=model,
        violations=(),
        batch_span=None,
        failure=None,
        predictions=(answered,),
    )


def lookalike_requests() -> tuple[Origin, list[RequestRecord]]:
    """Return requests with values that are equal in Python but differ in type or sign; each row alone, then all."""
    origin, request = request_record(3)
    time = request.end - 1
    values: tuple[tuple[Any, float | None, float | None, tuple[Any, ...]], ...] = (
        (None, 0.0, 0.0, (1, 1, True)),
        (1, 1.0, None, (1.0, True, 1)),
        (True, 0.5, None, (True, 1.0, 0)),
        (1.0, None, None, (0.0, False, 0)),
        (0.0, None, None, (0.0, 1.5, True)),
        (-0.0, None, None, (-0.0, 1.5, 1)),
        (1.0, None, None, (0.0, -0.0, 0.0)),
    )
    rows = tuple(
        answered_row(
            "abcdefg"[index], row=index, label=label, confidence=confidence, value=value, inputs=inputs, time=time
        )
        for index, (label, confidence, value, inputs) in enumerate(values)
    )
    alone = [request._replace(predictions=(row,)) for row in rows]
    return origin, [*alone, request._replace(is_batch=True, rows=9, rejected_rows=2, predictions=rows[1:] + rows[:1])]
