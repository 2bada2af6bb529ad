"""Telemetry of true labels: the sidecar path and the SDK path export the same."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import Metric
from pydantic import SecretStr

from modeltrace.inference.model import Model
from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.sidecar.encode.feedback import FeedbackEncoder
from modeltrace.telemetry.metrics.feedback import FeedbackMetrics
from modeltrace.telemetry.metrics.instruments import FEEDBACK_REJECTED
from modeltrace.telemetry.records.feedback import FEEDBACK_LOGGER, FeedbackRecord, TrueLabel
from modeltrace.telemetry.records.prediction import Origin
from modeltrace.telemetry.records.sidecar_codec import RecordChunk, RecordDecoder, encode
from tests.helpers.conformance import comparable_metrics, comparable_spans, json_of, sdk_spans, traceparent_headers
from tests.helpers.in_process_services import SYNTHETIC_TOKEN, RecordsService, SdkService, records_service
from tests.helpers.services import ID_KEY
from tests.helpers.strategies import TEXTS, TIMES, ids

IDS = PredictionIdSigner(ID_KEY.encode())
DAY = 86_400 * 10**9
ORIGIN = Origin(b"", "modeltrace")


def prediction(number: int, answer: str | float = "benign", *, version: str = "1.0.0", traced: bool = True) -> str:
    """Return the ID of a prediction."""
    return IDS.sign(PredictionRef(number * traced, number, 0, 1_700_000_000_000_000_000, version, answer))


def label(number: int, true: object = "benign", **more: Any) -> dict[str, object]:
    """Return the body of a request with its label."""
    return {"prediction_id": prediction(number, **more), "label": true}


MIXED = [
    label(1),
    label(2, "malignant"),
    label(3, "malignant"),
    label(3, "benign"),
    label(2, "malignant"),
    label(4, version="0.9"),
    label(5, traced=False),
    label(6, "purple"),
    {"prediction_id": "forged", "label": "benign"},
    7,
]
CLASSIFIED: dict[str, dict[str, Any]] = {
    "right": {"json": label(1)},
    "wrong": {"json": label(1, "malignant")},
    "many": {"json": {"items": MIXED}},
    "none": {"json": {"items": []}},
    "refused": {"json": label(1, "purple")},
    "malformed": {"content": b"{"},
    "too many": {"json": {"items": [label(1)] * 11}},
    "a parent": {"json": {"items": MIXED}, **traceparent_headers("01", tracestate="vendor=1")},
    "a parent that is not sampled": {"json": {"items": MIXED}, **traceparent_headers("00")},
    "pinned": {"json": {"items": MIXED}, "headers": {"baggage": "modeltrace.pin=1"}},
    "synthetic": {"json": {"items": MIXED}, "headers": {"baggage": f"modeltrace.synthetic={SYNTHETIC_TOKEN}"}},
}
MEASURED = {"json": {"items": [label(n, true, answer=2.5) for n, true in enumerate((2.5, 4, -7.25, "x"), start=1)]}}


def answered(
    record: Callable[..., SdkService], model: Model, folder: Path, request: dict[str, Any]
) -> tuple[SdkService, RecordsService]:
    """Send the same request to a service of either path."""
    service = record(model, store=SecretStr(str(folder / "expected.db")), max_batch_rows=10)
    with records_service(model, store=str(folder / "records.db"), max_batch_rows=10) as sidecar:
        statuses = [client.post("/feedback", **request).status_code for client in (service.client, sidecar.client)]
    assert len(set(statuses)) == 1
    return service, sidecar


def comparable_links(spans: Iterable[Span]) -> list[Any]:
    """Return what must be equal of each span, sorted."""
    comparable = [
        (comparable_spans([span])[span.name], [(link.trace_id, link.span_id, link.flags) for link in span.links])
        for span in spans
    ]
    return sorted(comparable, key=str)


def exemplars_of(metrics: Iterable[Metric]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the predictions of the exemplars of labels."""
    return {
        (metric.name, str(sorted(point.attributes.items()))): [(e.trace_id, e.span_id) for e in point.exemplars]
        for metric in metrics
        if metric.name.startswith("ml.feedback") and metric.name != FEEDBACK_REJECTED.name
        for point in metric.data.data_points
    }


def sdk_metrics(service: SdkService) -> list[Metric]:
    """Return the metrics that the SDK would export."""
    data = service.metric_reader.get_metrics_data()
    assert data is not None
    return [metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics]


@pytest.mark.parametrize("case", [*CLASSIFIED, "values"])
def test_labels_are_exported_as_the_sdk_exports_them(
    record: Callable[..., SdkService], model: Model, tmp_path: Path, case: str
) -> None:
    """Spans with links, metric points with exemplars, and log records are equal."""
    if case == "values":
        model = replace(model, task="regressor", classes=None)
    service, sidecar = answered(record, model, tmp_path, CLASSIFIED.get(case, MEASURED))

    parents = {span.span_id for span in sidecar.spans() if span.name == "POST /feedback"}
    assert {span.parent_span_id for span in sidecar.spans() if span.name == "feedback"} <= parents
    sdk, ours = sdk_spans(service), sidecar.spans()
    for spans in (sdk, ours):
        for span in spans:
            if span.name == "feedback":
                span.parent_span_id = b""
    assert comparable_links(ours) == comparable_links(sdk)
    expected = sdk_metrics(service)
    metrics = sidecar.metrics()
    assert comparable_metrics(metrics) == comparable_metrics(expected)
    assert exemplars_of(metrics) == exemplars_of(expected)
    sent = FeedbackEncoder(ORIGIN).logs(sidecar.queue.feedback)
    sdk_logs = encode_logs(service.logs(FEEDBACK_LOGGER)).SerializeToString()
    assert [record for request, _ in sent for record in comparable_logs(request)] == comparable_logs(sdk_logs)


def comparable_logs(request: bytes) -> list[Any]:
    """Return what must be equal of each log record."""

    def comparable(record: LogRecord) -> Any:
        attributes = {a.key: json_of(a.value) for a in record.attributes}
        head = record.event_name, record.severity_number, record.severity_text, record.flags & 1
        return (*head, record.body.string_value, attributes)

    parsed = ExportLogsServiceRequest.FromString(request)
    return [comparable(record) for r in parsed.resource_logs for s in r.scope_logs for record in s.log_records]


def test_exemplars_of_wrong_classes_are_wrong_predictions(service: SdkService) -> None:
    """The exemplar of each pair of classes is the last prediction of that pair, that of the delay a wrong one."""
    for number, true, predicted in ((1, "benign", "benign"), (2, "malignant", "benign"), (3, "malignant", "malignant")):
        answer = service.client.post("/feedback", json=label(number, true, answer=predicted))
        assert answer.status_code == 200

    points = service.points()

    cells = {
        (p.attributes["ml.feedback.label"], p.attributes["ml.prediction.label"]): p.exemplars[0].trace_id
        for p in points["ml.feedback"]
    }
    assert cells == {("benign", "benign"): 1, ("malignant", "benign"): 2, ("malignant", "malignant"): 3}
    (delay,) = points["ml.feedback.delay"]
    assert [exemplar.trace_id for exemplar in delay.exemplars] == [2]


def feedback_record(*labels: TrueLabel, end: int = 0, **more: Any) -> FeedbackRecord:
    """Return labels that were stored together."""
    record = FeedbackRecord(
        b"t" * 16,
        b"s" * 8,
        "",
        1,
        pinned=False,
        start=end,
        end=end,
        model_name="m",
        model_version="1",
        labels=labels,
        rejected=(),
    )
    return record._replace(**more)


def true_label(time: int, true: str = "a", predicted: str = "a") -> TrueLabel:
    """Return a label of a prediction of that time."""
    return TrueLabel("id", b"p" * 16, b"q" * 8, time, "1", true, predicted)


@pytest.mark.parametrize(
    ("age", "name"),
    [(-5 * DAY, "1h"), (0, "1h"), (DAY // 24, "1h"), (DAY // 24 + 1000, "1d"), (DAY, "1d"), (7 * DAY, "7d"),
     (30 * DAY, "30d"), (31 * DAY, "older")],
)  # fmt: skip
def test_an_age_belongs_to_the_next_larger_bucket(age: int, name: str) -> None:
    """A prediction with a time in the future, by the clock of another replica, is new."""
    assert feedback_record(end=100 * DAY).age_bucket(true_label(100 * DAY - age)) == name


@pytest.mark.parametrize("delta", [True, False])
def test_points_are_cumulative_or_deltas(delta: bool) -> None:
    """Cumulative points grow. With delta temporality each collection starts anew, and has no empty points."""
    points = FeedbackMetrics(exemplar_filter="trace_based", delta=delta)
    counts = []
    for _ in range(2):
        points.add([feedback_record(true_label(0), rejected=(("conflict", 3),))])
        metrics = {metric.name: metric.data.data_points for metric in points.collect()}
        counts.append([metrics[name][0].value for name in ("ml.feedback", "ml.feedback.rejected")])

    assert counts == [[1, 3], [1, 3] if delta else [2, 6]]
    assert len(points.collect()) == (0 if delta else 3)


@pytest.mark.parametrize(
    ("exemplar_filter", "flags", "labels", "rejected"),
    [("always_off", 1, 0, 0), ("trace_based", 1, 1, 1), ("trace_based", 0, 1, 0), ("always_on", 0, 1, 1)],
)
def test_the_exemplar_filter_is_respected(exemplar_filter: str, flags: int, labels: int, rejected: int) -> None:
    """For a prediction it is not known whether its trace was sampled; for the request with a rejected label it is."""
    points = FeedbackMetrics(exemplar_filter=exemplar_filter)
    points.add([feedback_record(true_label(0), trace_flags=flags, rejected=(("conflict", 1),))])

    exemplars = {metric.name: len(metric.data.data_points[0].exemplars) for metric in points.collect()}

    assert exemplars == {"ml.feedback": labels, "ml.feedback.delay": labels, "ml.feedback.rejected": rejected}


def test_the_number_of_series_is_limited() -> None:
    """Further attribute sets share one point with `otel.metric.overflow`."""
    points = FeedbackMetrics(exemplar_filter="trace_based")
    points.add([feedback_record(rejected=tuple((str(n), 1) for n in range(150)))])

    (metric,) = points.collect()

    assert len(metric.data.data_points) == 101
    overflow = metric.data.data_points[-1]
    assert (overflow.attributes, overflow.value) == ({"otel.metric.overflow": True}, 50)


labels = st.builds(
    TrueLabel,
    prediction_id=st.text("AZaz09-_", min_size=1, max_size=60),
    trace_id=ids(16) | st.just(bytes(16)),
    span_id=ids(8),
    prediction_time=TIMES,
    model_version=TEXTS,
    label=TEXTS | st.floats(),
    predicted=TEXTS | st.floats(),
)
feedback = st.builds(
    FeedbackRecord,
    trace_id=ids(16) | st.just(bytes(16)),
    span_id=ids(8),
    trace_state=st.sampled_from(["", "a=b", "no state"]),
    trace_flags=st.integers(0, 3),
    pinned=st.booleans(),
    start=TIMES,
    end=TIMES,
    model_name=TEXTS,
    model_version=TEXTS,
    labels=st.lists(labels, max_size=4).map(tuple),
    rejected=st.lists(st.tuples(TEXTS, st.integers(1, 9)), max_size=2).map(tuple),
)


@given(st.lists(feedback, max_size=4))
def test_any_record_can_be_exported(records: list[FeedbackRecord]) -> None:
    """Any text and number crosses the pipe unchanged, and each label becomes a span, a log record and a log line."""
    encoder = FeedbackEncoder(ORIGIN, max_bytes=2000)
    number = sum(len(record.labels) for record in records)

    assert RecordDecoder().decode(encode(RecordChunk(feedback=records))).feedback == records or "nan" in str(records)
    assert sum(n for _, n in encoder.logs(records)) == number
    assert len(encoder.lines(records).splitlines()) == number
    assert sum(n for _, n in encoder.spans(records)) == sum(
        len(record.labels) for record in records if record.trace_flags & 1
    )


def test_with_a_higher_log_level_a_label_makes_no_log_record(service: SdkService) -> None:
    """With a log level above INFO, a label is only counted."""
    logging.getLogger().setLevel("WARNING")
    assert service.client.post("/feedback", json=label(1)).status_code == 200

    assert service.logs(FEEDBACK_LOGGER) == []
    assert service.points()["ml.feedback"][0].value == 1
