"""The sidecar path exports the same telemetry as the SDK and its instrumentations do for the same requests."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from modeltrace.errors import ModeltraceError
from modeltrace.inference.model import Model, ModelOutput
from modeltrace.inference.schema import OutputReference
from tests.helpers.conformance import comparable_metrics, comparable_spans, sdk_spans, traceparent_headers
from tests.helpers.in_process_services import SYNTHETIC_TOKEN, SdkService, records_service

Rows = list[dict[str, float]]


def single_request(rows: Rows, **more: Any) -> dict[str, Any]:
    """Return a request for one row."""
    return {"url": "/predict", "json": {"features": rows[0]}, **more}


def batch_request(rows: Rows, *batch: Any) -> dict[str, Any]:
    """Return a request for several rows: `rows`, then those of `batch`."""
    return {"url": "/predict/batch", "json": {"rows": [*rows, *batch]}}


CASES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "one row": single_request,
    "many rows, one refused": lambda rows: batch_request(rows[:2], {}),
    "many rows, all refused": lambda _: batch_request([], {}, []),
    "no rows": lambda _: batch_request([]),
    "not JSON": lambda _: {"url": "/predict", "content": b"{"},
    "not the shape": lambda _: {"url": "/predict", "json": {"rows": []}},
    "refused": lambda rows: single_request([{**rows[0], "mean_radius": "wide"}]),  # type: ignore[dict-item]  # on purpose
    "many rows, refused for several reasons": lambda rows: batch_request(
        rows[:1], {**rows[0], "mean_radius": None}, {**rows[0], "mean_radius": None, "mean_area": "wide"}, {"x": 1}, 7
    ),
    "too large": lambda _: {"url": "/predict", "content": b" " * 5000},
    "a parent": lambda rows: single_request(rows, **traceparent_headers("01", tracestate="vendor=1,other=2")),
    "a parent with a random ID": lambda rows: single_request(rows, **traceparent_headers("03")),
    "a parent that is not sampled": lambda rows: single_request(rows, **traceparent_headers("00")),
    "a broken parent": lambda rows: single_request(rows, headers={"traceparent": "00-0-0-01"}),
    "pinned": lambda rows: single_request(rows, headers={"baggage": "modeltrace.pin=1"}),
    "synthetic": lambda rows: single_request(rows, headers={"baggage": f"modeltrace.synthetic={SYNTHETIC_TOKEN}"}),
    "synthetic, many rows": lambda rows: {
        **batch_request(rows[:2], {}),
        "headers": {"baggage": f"modeltrace.synthetic={SYNTHETIC_TOKEN}"},
    },
    "marked by a stranger": lambda rows: single_request(rows, headers={"baggage": "modeltrace.synthetic=1"}),
    "a query": lambda rows: {**single_request(rows), "url": "/predict?next=/healthz&x=%20"},
    "probabilities": lambda rows: {**single_request(rows), "url": "/predict?probabilities=true"},
    "probabilities, an invalid value": lambda rows: {**single_request(rows), "url": "/predict?probabilities=1"},
    "an external ID": lambda rows: {"url": "/predict", "json": {"features": rows[0], "id": "order-17"}},
    "an external ID of a rejected row": lambda _: {"url": "/predict", "json": {"features": {}, "id": "order-17"}},
    "external IDs": lambda rows: {"url": "/predict/batch", "json": {"rows": [rows[0], {}], "ids": ["a", None]}},
    "a bot": lambda rows: single_request(rows, headers={"user-agent": "Googlebot/2.1"}),
    "an empty user agent": lambda rows: single_request(rows, headers={"user-agent": ""}),
    "no host": lambda rows: single_request(rows, headers={"host": ""}),
}


def send(client: TestClient, rows: Rows, case: str) -> int:
    """Send the request of a case, and return the status of the response."""
    status: int = client.post(**CASES[case](rows)).status_code
    return status


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_spans_equal_those_of_the_sdk(record: Callable[..., SdkService], model: Model, rows: Rows, case: str) -> None:
    """Name, kind, parent, flags, state, attributes, events, status and links of every span are equal."""
    service = record(model, max_body_bytes=4096)
    with records_service(model, max_body_bytes=4096) as sidecar:
        statuses = send(service.client, rows, case), send(sidecar.client, rows, case)

        assert statuses[0] == statuses[1]
        expected_telemetry = sdk_spans(service)
        assert comparable_spans(sidecar.spans()) == comparable_spans(expected_telemetry)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_metrics_equal_those_of_the_sdk(record: Callable[..., SdkService], model: Model, rows: Rows, case: str) -> None:
    """Name, unit, description, attributes, bounds, counts, sums and presence of exemplars are equal."""
    service = record(model, max_body_bytes=4096)
    with records_service(model, max_body_bytes=4096) as sidecar:
        send(service.client, rows, case)
        send(sidecar.client, rows, case)

        data = service.metric_reader.get_metrics_data()
        assert data is not None
        expected_telemetry = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        assert comparable_metrics(sidecar.metrics()) == comparable_metrics(expected_telemetry)


def test_both_paths_count_predictions_by_label_bin_and_confidence(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """Low confidence is counted below the bundle's threshold, values of a regressor by their bin."""
    uncertain = replace(model, confidence_threshold=1.0)
    edges = OutputReference(n=3, shares={"00": 0.5, "01": 0.5}, edges=(1.0,))
    values = replace(model, task="regressor", classes=None, output_reference=edges, predict_fn=_values)
    for served, name, expected in (
        (uncertain, "ml.predictions.low_confidence", {(): 3}),
        (values, "ml.predictions", {(("ml.prediction.bin", "00"),): 2, (("ml.prediction.bin", "01"),): 1}),
    ):
        service = record(served)
        with records_service(served) as sidecar:
            for client in (service.client, sidecar.client):
                assert client.post(**batch_request(rows[:3])).status_code == 200
            data = service.metric_reader.get_metrics_data()
            assert data is not None
            expected_telemetry = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
            for metrics in (expected_telemetry, sidecar.metrics()):
                (counter,) = (metric for metric in metrics if metric.name == name)
                assert {
                    tuple(item for item in p.attributes.items() if not item[0].startswith("ml.model")): p.value
                    for p in counter.data.data_points
                } == expected


def _values(matrix: Any) -> list[ModelOutput]:
    return [ModelOutput(value=float(index)) for index in range(len(matrix))]


def _breaking(error: Exception) -> Callable[[object], list[ModelOutput]]:
    def fail(_: object) -> list[ModelOutput]:
        raise error

    return fail


@pytest.mark.parametrize("case", ["one row", "many rows, one refused"])
@pytest.mark.parametrize("error", [ZeroDivisionError("secret 42"), ModeltraceError("on purpose")])
def test_failures_are_recorded_as_the_sdk_records_them(
    record: Callable[..., SdkService], model: Model, rows: Rows, case: str, error: Exception
) -> None:
    """`inference` has the exception and its type. The SERVER span is an error with the status as its type."""
    failing = replace(model, predict_fn=_breaking(error))
    service = record(failing)
    with records_service(failing) as sidecar:
        assert (send(service.client, rows, case), send(sidecar.client, rows, case)) == (500, 500)

        expected_telemetry = sdk_spans(service)
        assert comparable_spans(sidecar.spans()) == comparable_spans(expected_telemetry)


def test_both_paths_send_the_same_responses(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """Status, headers and body are equal, except for IDs."""
    service = record(model)
    with records_service(model) as sidecar:
        for path, body in (
            ("/predict", {"features": rows[0]}),
            ("/predict/batch", {"rows": [rows[0], {}]}),
            ("/predict", {"features": {}}),
            ("/predict", []),
        ):
            sdk_response, sidecar_response = (
                client.post(path, json=body) for client in (service.client, sidecar.client)
            )
            assert sidecar_response.status_code == sdk_response.status_code
            assert set(sidecar_response.headers) == set(sdk_response.headers)
            assert sidecar_response.headers["content-type"] == sdk_response.headers["content-type"]
            assert _without_ids(sidecar_response.json()) == _without_ids(sdk_response.json())


def _without_ids(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _without_ids(value) for key, value in body.items() if key not in ("trace_id", "prediction_id")}
    return [_without_ids(item) for item in body] if isinstance(body, list) else body


def test_requests_that_share_a_model_call_have_their_own_spans(model: Model, rows: Rows) -> None:
    """Each request has its own `queue` and `inference`, which is linked to the span of the shared call."""
    with records_service(model, batching=True) as sidecar:
        assert send(sidecar.client, rows, "one row") == 200

        spans = {span.name: span for span in sidecar.spans()}
    assert set(spans) == {"POST /predict", "validate", "queue", "features", "inference", "batch"}
    assert [link.span_id for link in spans["inference"].links] == [spans["batch"].span_id]
    assert [link.span_id for link in spans["batch"].links] == [spans["POST /predict"].span_id]
    assert spans["batch"].trace_id != spans["inference"].trace_id
    server = spans["POST /predict"]
    assert {spans[name].parent_span_id for name in ("validate", "queue", "features", "inference")} == {server.span_id}
