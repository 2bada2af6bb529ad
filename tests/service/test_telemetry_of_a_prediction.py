"""Telemetry of one request on the SDK path: spans, metric points, log records."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from modeltrace.inference.model import Model, ModelOutput
from tests.helpers.in_process_services import SdkService

Rows = list[dict[str, float]]
PINNED = {"baggage": "modeltrace.pin=1"}


def failing(model: Model) -> Model:
    """Return a model that raises."""

    def fail(_: object) -> list[ModelOutput]:
        raise ZeroDivisionError("secret 42")

    return replace(model, predict_fn=fail)


def exceptions(spans: dict[str, ReadableSpan]) -> list[tuple[str, str]]:
    """Return every recorded exception: the name of its span, and its type."""
    return [
        (span.name, str((event.attributes or {})["exception.type"]))
        for span in spans.values()
        for event in span.events
        if event.name == "exception"
    ]


def test_a_prediction_is_one_server_span_with_three_stages(service: SdkService, rows: Rows) -> None:
    """There are no `send` or `receive` spans, and no second SERVER span."""
    service.client.post("/predict", json={"features": rows[0]})

    spans = service.span_exporter.get_finished_spans()
    assert [span.name for span in spans] == ["validate", "features", "inference", "POST /predict"]
    assert [span.kind for span in spans] == [SpanKind.INTERNAL] * 3 + [SpanKind.SERVER]
    server = spans[-1]
    assert {span.parent.span_id for span in spans[:3] if span.parent} == {server.context.span_id}


def test_the_server_span_has_http_attributes_and_the_prediction(service: SdkService, rows: Rows) -> None:
    """It has HTTP attributes by the stable conventions, and model, label and confidence."""
    body = service.client.post("/predict", json={"features": rows[0]}).json()

    attributes = dict(service.spans()["POST /predict"].attributes or {})
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/predict"
    assert attributes["http.response.status_code"] == 200
    assert attributes["ml.model.name"] == "breast-cancer"
    assert attributes["ml.model.version"] == "1.0.0"
    assert attributes["ml.prediction.id"] == body["prediction_id"]
    assert attributes["ml.prediction.label"] == body["label"]
    assert attributes["ml.prediction.confidence"] == body["confidence"]


def test_a_batch_has_its_numbers_of_rows(service: SdkService, rows: Rows) -> None:
    """The SERVER span has the numbers of rows and of rejected rows, `inference` that of accepted rows."""
    answer = service.client.post("/predict/batch", json={"rows": [rows[0], {}, rows[1]]}).json()

    spans = service.spans()
    server = dict(spans["POST /predict/batch"].attributes or {})
    confidences = [p["confidence"] for p in answer["predictions"] if "confidence" in p]
    assert server["ml.inference.batch.lowest_confidence"] == min(confidences)
    assert (server["ml.inference.batch.size"], server["ml.inference.batch.rejected"]) == (3, 1)
    assert dict(spans["inference"].attributes or {})["ml.inference.batch.size"] == 2


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_checks_make_no_spans(service: SdkService, path: str) -> None:
    """Frequent requests of machines are not traced."""
    service.client.get(path)

    assert service.span_exporter.get_finished_spans() == ()


def test_a_query_that_names_a_health_check_is_traced(service: SdkService) -> None:
    """Only the path excludes a request from tracing."""
    service.client.get("/model?next=/healthz")

    assert set(service.spans()) == {"GET /model"}


def test_a_failure_is_recorded_once_with_its_type(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """Only `inference` has the exception. The SERVER span is an error with the status as its type."""
    service = record(failing(model))
    service.client.post("/predict", json={"features": rows[0]})

    spans = service.spans()
    assert exceptions(spans) == [("inference", "modeltrace.errors.InferenceError")]
    assert dict(spans["inference"].attributes or {})["error.type"] == "ZeroDivisionError"
    assert spans["POST /predict"].status.status_code is StatusCode.ERROR
    assert dict(spans["POST /predict"].attributes or {})["error.type"] == "500"


def test_a_failure_is_logged_once_with_its_stack_and_trace(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """There is one ERROR record, with the trace ID and the stack."""
    service = record(failing(model))
    body = service.client.post("/predict", json={"features": rows[0]}).json()

    errors = [
        record.log_record
        for record in service.log_exporter.get_finished_logs()
        if record.log_record.severity_text == "ERROR"
    ]
    (error,) = errors
    assert f"{error.trace_id:032x}" == body["trace_id"]
    assert "ZeroDivisionError" in str((error.attributes or {})["exception.stacktrace"])


def test_a_rejected_request_is_no_error_of_the_service(service: SdkService) -> None:
    """With status 422 the SERVER span is unset, as the conventions demand. `validate` has the error."""
    service.client.post("/predict", json={"features": {}})

    spans = service.spans()
    assert spans["POST /predict"].status.status_code is StatusCode.UNSET
    assert dict(spans["validate"].attributes or {})["error.type"] == "invalid_features"
    assert exceptions(spans) == []


def test_the_trace_of_the_caller_is_continued(service: SdkService, rows: Rows) -> None:
    """The SERVER span is a child of the caller's span, and has its tracestate."""
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "vendor=1"}

    body = service.client.post("/predict", json={"features": rows[0]}, headers=headers).json()

    server = service.spans()["POST /predict"]
    assert body["trace_id"] == trace_id
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == span_id
    assert server.context.trace_state.get("vendor") == "1"


def test_the_log_record_holds_the_complete_prediction(service: SdkService, model: Model, rows: Rows) -> None:
    """It has inputs, label, confidence, model with hash and prediction ID, and belongs to the SERVER span."""
    body = service.client.post("/predict", json={"features": rows[0]}).json()

    (record,) = service.logs("modeltrace.prediction")
    server = service.spans()["POST /predict"]
    assert record.log_record.event_name == "ml.prediction"
    assert record.log_record.span_id == server.context.span_id
    assert dict(record.log_record.attributes or {}) == {
        "ml.prediction.id": body["prediction_id"],
        "ml.prediction.row": 0,
        "ml.prediction.label": body["label"],
        "ml.prediction.confidence": body["confidence"],
        "ml.prediction.inputs": rows[0],
        "ml.model.name": model.name,
        "ml.model.version": model.version,
        "ml.model.hash": model.hash,
    }


def test_a_batch_makes_one_log_record_per_row(service: SdkService, rows: Rows) -> None:
    """Each record has the inputs and the prediction of one row. A rejected row has no record."""
    service.client.post("/predict/batch", json={"rows": [rows[0], {}, rows[1]]})

    written = [dict(record.log_record.attributes or {}) for record in service.logs("modeltrace.prediction")]
    assert [entry["ml.prediction.row"] for entry in written] == [0, 2]
    assert [entry["ml.prediction.inputs"] for entry in written] == [rows[0], rows[1]]


def test_predictions_are_counted_by_label_and_version(service: SdkService, rows: Rows) -> None:
    """The counters add up to the number of predictions."""
    answers = service.client.post("/predict/batch", json={"rows": rows[:50]}).json()["predictions"]

    counted = {p.attributes["ml.prediction.label"]: p.value for p in service.points()["ml.predictions"]}
    labels = [answer["label"] for answer in answers]
    assert counted == {label: labels.count(label) for label in set(labels)}


def test_confidence_and_durations_are_recorded(service: SdkService, rows: Rows) -> None:
    """There is one confidence per row, one inference and one duration per request, in their units."""
    service.client.post("/predict/batch", json={"rows": rows[:7]})

    points = service.points()
    assert sum(p.count for p in points["ml.prediction.confidence"]) == 7
    assert [p.count for p in points["ml.inference.duration"]] == [1]
    assert [p.count for p in points["http.server.request.duration"]] == [1]
    assert {0.3, 0.5} <= set(points["http.server.request.duration"][0].explicit_bounds)


def test_a_failed_inference_is_counted_as_one(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """Its duration has `error.type`, and no prediction is counted."""
    service = record(failing(model))
    service.client.post("/predict", json={"features": rows[0]})

    points = service.points()
    assert points["ml.inference.duration"][0].attributes["error.type"] == "ZeroDivisionError"
    assert "ml.predictions" not in points


def test_a_pinned_request_is_preferred_as_exemplar(service: SdkService, rows: Rows) -> None:
    """Neither earlier nor later requests replace it, on any of the four metrics."""
    for row in rows[:20]:
        service.client.post("/predict", json={"features": row})
    pinned = service.client.post("/predict", json={"features": rows[0]}, headers=PINNED).json()
    for row in rows[:20]:
        service.client.post("/predict", json={"features": row})

    points = service.points()
    for name in ("http.server.request.duration", "ml.inference.duration", "ml.predictions", "ml.prediction.confidence"):
        traces = {f"{e.trace_id:032x}" for point in points[name] for e in point.exemplars}
        assert pinned["trace_id"] in traces, name


@pytest.mark.parametrize(("headers", "attribute"), [(PINNED, True), ({}, None)])
def test_the_span_of_a_pinned_request_is_marked(
    service: SdkService, rows: Rows, headers: dict[str, str], attribute: bool | None
) -> None:
    """A tail sampler can keep pinned requests."""
    service.client.post("/predict", json={"features": rows[0]}, headers=headers)

    assert dict(service.spans()["POST /predict"].attributes or {}).get("modeltrace.pin") is attribute


def test_no_metric_has_an_identifier_or_a_feature_value(service: SdkService, model: Model, rows: Rows) -> None:
    """Clients cannot add attribute values to metrics: the bundle defines features and bins."""
    service.client.post("/predict", json={"features": rows[0]})
    service.client.get("/some/path/that/nobody/serves")

    allowed = {
        "http.request.method", "http.route", "http.response.status_code", "url.scheme", "network.protocol.version",
        "error.type", "ml.model.name", "ml.model.version", "ml.model.hash", "ml.prediction.label",
        "ml.feature.name", "ml.feature.bin", "ml.feature.sign", "ml.drift.statistic",
    }  # fmt: skip
    bins = {(feature.name, name) for feature in model.schema.features for name in feature.reference.shares}
    for name, points in service.points().items():
        for point in points:
            assert set(point.attributes) <= allowed, name
            if "ml.feature.bin" in point.attributes:
                assert (point.attributes["ml.feature.name"], point.attributes["ml.feature.bin"]) in bins
            else:
                assert {point.attributes.get("ml.feature.name")} <= {None, *model.schema.names}


def test_body_sizes_are_not_reported(service: SdkService, rows: Rows) -> None:
    """The instrumentation's sizes are wrong with concurrent requests, so they are dropped."""
    service.client.post("/predict", json={"features": rows[0]})

    assert not [name for name in service.points() if name.endswith("body.size")]


def test_a_rejection_never_contains_a_value(service: SdkService, rows: Rows) -> None:
    """A secret in a rejected feature is in no span and no log record."""
    service.client.post("/predict", json={"features": {**rows[0], "mean_radius": "secret-42"}})

    spans = service.span_exporter.get_finished_spans()
    recorded = str([dict(span.attributes or {}) for span in spans])
    recorded += str([dict(event.attributes or {}) for span in spans for event in span.events])
    recorded += str([record.log_record.body for record in service.log_exporter.get_finished_logs()])
    recorded += str([dict(record.log_record.attributes or {}) for record in service.log_exporter.get_finished_logs()])
    assert "secret-42" not in recorded
