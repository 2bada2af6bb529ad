"""A model with private features on the SDK path and on the sidecar path."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from modeltrace.bundles.bundle import load_bundle
from modeltrace.bundles.pack import pack
from modeltrace.bundles.schema_redaction import redact_schema
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.privacy import Redactor
from modeltrace.serving.version import privacy_rules
from modeltrace.settings import read_settings
from modeltrace.sidecar.encode.logs import LogEncoder
from modeltrace.store.rows import RowBuilder
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import Origin
from tests.helpers.conformance import comparable_metrics, comparable_spans, json_of, sdk_spans
from tests.helpers.factories import request_record
from tests.helpers.in_process_services import SdkService, records_service
from tests.helpers.services import ID_KEY
from tests.helpers.tables import customers_without_gaps, forest_pipeline, schema_of

RULES: Any = {"age": "bucket", "income": "hash", "city": "hash", "vip": "drop"}
DATA = customers_without_gaps()
PLAIN = schema_of(DATA)
ROWS = [
    {"age": 61, "income": 8675309.0625, "city": "geheim 4711", "vip": True},
    {"age": 20, "income": 5, "city": "Bonn", "vip": False},
]
CASES: dict[str, tuple[str, Any]] = {
    "one row": ("/predict", {"features": ROWS[0]}),
    "many rows": ("/predict/batch", {"rows": [*ROWS, {**ROWS[0], "income": "geheim 4711"}]}),
    "rejected": ("/predict", {"features": {**ROWS[0], "age": "geheim 4711", "geheim 4711": 1}}),
    "a query": ("/predict?city=geheim+4711", {"features": ROWS[0]}),
    "a query with a parameter": ("/predict?city=geheim+4711&probabilities=true", {"features": ROWS[0]}),
    "a parameter with a value": ("/predict?probabilities=geheim+4711", {"features": ROWS[0]}),
}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model with a feature of each privacy rule."""
    data = customers_without_gaps()
    folder = tmp_path_factory.mktemp("bundles") / "private"
    return load_bundle(
        pack(forest_pipeline().fit(data, data.age > 50), data, name="private", out=folder, privacy=RULES)
    )


def recorded_text(service: SdkService) -> str:
    """Return everything that the SDK exported, except for records of the HTTP client in this process."""
    spans = service.span_exporter.get_finished_spans()
    logs = [r for r in service.log_exporter.get_finished_logs() if not r.instrumentation_scope.name.startswith("httpx")]
    records = [(r.log_record.body, r.log_record.attributes) for r in logs]
    return str([span.to_json() for span in spans]) + str(records) + str(service.points())


@pytest.mark.parametrize("case", CASES)
def test_both_paths_record_the_same(record: Callable[..., SdkService], private: Model, case: str) -> None:
    """Spans, metric points and prediction log records agree: bins of raw values, and redacted inputs."""
    path, body = CASES[case]
    service = record(private)
    rules = privacy_rules(read_settings(id_key=ID_KEY), private)
    assert rules is not None
    with records_service(private) as ours:
        assert service.client.post(path, json=body).status_code == ours.client.post(path, json=body).status_code

        assert comparable_spans(ours.spans()) == comparable_spans(sdk_spans(service))
        counted = comparable_metrics(ours.metrics())  # before the rules
        ours.queue.requests[:] = map(rules.redact_request, ours.queue.requests)
    data = service.metric_reader.get_metrics_data()
    assert data is not None
    assert counted == comparable_metrics([m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics])
    encoded = LogEncoder(Origin(b"", "modeltrace")).predictions(ours.queue.requests)
    sent = [
        json_of(next(item.value for item in log.attributes if item.key == "ml.prediction.inputs"))
        for body, _ in encoded
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for log in scope.log_records
    ]
    exported = [dict(log.log_record.attributes or {}) for log in service.logs("modeltrace.prediction")]
    assert sent == [dict(attributes["ml.prediction.inputs"]) for attributes in exported]  # type: ignore[call-overload]  # a mapping
    assert all(inputs.keys() == {"age", "income", "city"} for inputs in sent)
    assert "geheim" not in recorded_text(service)
    assert "8675309" not in recorded_text(service)


def test_private_features_have_no_sums_and_no_exemplars(private: Model) -> None:
    """The sum of one prediction would be its value, and an exemplar would disclose the bin of a request."""
    with records_service(private) as ours:
        ours.client.post("/predict", json={"features": ROWS[0]})
        metrics = {metric.name: metric for metric in ours.metrics()}

    assert "ml.feature.sum" not in metrics
    observed = metrics["ml.feature.observations"]
    with_exemplars = {p.attributes["ml.feature.name"] for p in observed.data.data_points if p.exemplars}  # type: ignore[index]
    assert with_exemplars == {"age"}  # the record of the prediction contains the bucket anyway
    assert sum(p.value for p in observed.data.data_points) == len(ROWS[0])  # type: ignore[union-attr]  # sums


def test_neither_path_records_the_message_of_a_failing_model(record: Callable[..., SdkService], private: Model) -> None:
    """The type of the exception is recorded; span, log record and response do not contain its message."""

    def fail(matrix: Any) -> list[ModelOutput]:
        raise ZeroDivisionError(f"cannot do {matrix}") from KeyError(str(matrix))

    failing = replace(private, predict_fn=fail)
    service = record(failing)
    with records_service(failing) as ours:
        responses = [client.post("/predict", json={"features": ROWS[0]}) for client in (service.client, ours.client)]

        assert comparable_spans(ours.spans()) == comparable_spans(sdk_spans(service))
        records = str(ours.queue.requests[0].failure)
    assert [response.status_code for response in responses] == [500, 500]
    for text in (recorded_text(service), records, *(response.text for response in responses)):
        assert "geheim" not in text
    assert "ZeroDivisionError: withheld" in records
    assert "KeyError: withheld" in records
    log, *_ = service.logs("modeltrace.api")
    assert "ZeroDivisionError" in str((log.log_record.attributes or {})["exception.stacktrace"])


@given(
    st.fixed_dictionaries({name: st.sampled_from(["plain", "hash", "bucket", "drop"]) for name in RULES}),
    st.integers(10**9, 10**12) | st.floats(1e9, 1e12),
    st.text("ghimnqz4711", min_size=8, max_size=12),
)
def test_no_record_contains_a_private_value(rules: dict[str, Any], number: float, text: str) -> None:
    """With any rules, the record for the sidecar and the stored row contain values of plain features only."""
    schema = redact_schema(PLAIN, DATA, rules)
    _, request = request_record(4)
    raw = (number, 1 / number, text, True)
    answered = (request.predictions[0]._replace(inputs=raw),)
    request = request._replace(predictions=answered, model=ModelInfo("x", "1", "0", schema.recorded_names))

    redacted = Redactor(schema, b"key").redact_request(request)

    (stored,) = RowBuilder("1").build(redacted)
    inputs = dict(zip(schema.recorded_names, redacted.predictions[0].inputs, strict=True))
    assert json.loads(str(stored.inputs)) == inputs
    for name, value in zip(RULES, raw[:3], strict=False):
        if rules[name] == "plain":
            assert inputs[name] == value
        else:
            assert str(value) not in f"{redacted.predictions} {stored.inputs}"
    assert redacted._replace(predictions=()) == request._replace(predictions=())
