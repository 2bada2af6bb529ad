"""What is told from records is what the stock instrumentation and the SDK tell of the same requests."""

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


def one(rows: Rows, **more: Any) -> dict[str, Any]:
    """A request for one row."""
    return {"url": "/predict", "json": {"features": rows[0]}, **more}


def many(rows: Rows, *batch: Any) -> dict[str, Any]:
    """A request for several rows: the first ones, then those given."""
    return {"url": "/predict/batch", "json": {"rows": [*rows, *batch]}}


CASES: dict[str, Callable[[Rows], dict[str, Any]]] = {
    "one row": one,
    "many rows, one refused": lambda rows: many(rows[:2], {}),
    "many rows, all refused": lambda _: many([], {}, []),
    "no rows": lambda _: many([]),
    "not JSON": lambda _: {"url": "/predict", "content": b"{"},
    "not the shape": lambda _: {"url": "/predict", "json": {"rows": []}},
    "refused": lambda rows: one([{**rows[0], "mean_radius": "wide"}]),  # type: ignore[dict-item]  # on purpose
    "many rows, refused for several reasons": lambda rows: many(
        rows[:1], {**rows[0], "mean_radius": None}, {**rows[0], "mean_radius": None, "mean_area": "wide"}, {"x": 1}, 7
    ),
    "too large": lambda _: {"url": "/predict", "content": b" " * 5000},
    "a parent": lambda rows: one(rows, **traceparent_headers("01", tracestate="vendor=1,other=2")),
    "a parent with a random ID": lambda rows: one(rows, **traceparent_headers("03")),
    "a parent that is not sampled": lambda rows: one(rows, **traceparent_headers("00")),
    "a broken parent": lambda rows: one(rows, headers={"traceparent": "00-0-0-01"}),
    "pinned": lambda rows: one(rows, headers={"baggage": "modeltrace.pin=1"}),
    "synthetic": lambda rows: one(rows, headers={"baggage": f"modeltrace.synthetic={SYNTHETIC_TOKEN}"}),
    "synthetic, many rows": lambda rows: {
        **many(rows[:2], {}),
        "headers": {"baggage": f"modeltrace.synthetic={SYNTHETIC_TOKEN}"},
    },
    "marked by a stranger": lambda rows: one(rows, headers={"baggage": "modeltrace.synthetic=1"}),
    "a query": lambda rows: {**one(rows), "url": "/predict?next=/healthz&x=%20"},
    "a bot": lambda rows: one(rows, headers={"user-agent": "Googlebot/2.1"}),
    "an empty user agent": lambda rows: one(rows, headers={"user-agent": ""}),
    "no host": lambda rows: one(rows, headers={"host": ""}),
}


def ask(client: TestClient, rows: Rows, case: str) -> int:
    """Send one of the requests that a client may send."""
    status: int = client.post(**CASES[case](rows)).status_code
    return status


@pytest.mark.parametrize("case", CASES)
def test_spans_are_those_of_the_stock_instrumentation(
    record: Callable[..., SdkService], model: Model, rows: Rows, case: str
) -> None:
    """Name, kind, parent, flags, state, attributes, events, status and links of every span are the same."""
    service = record(model, max_body_bytes=4096)
    with records_service(model, max_body_bytes=4096) as ours:
        statuses = ask(service.client, rows, case), ask(ours.client, rows, case)

        assert statuses[0] == statuses[1]
        stock = sdk_spans(service)
        assert comparable_spans(ours.spans()) == comparable_spans(stock)


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_the_stock_instrumentation(
    record: Callable[..., SdkService], model: Model, rows: Rows, case: str
) -> None:
    """Name, unit, description, attributes, bounds, counts and sums are the same, and so is who has an exemplar."""
    service = record(model, max_body_bytes=4096)
    with records_service(model, max_body_bytes=4096) as ours:
        ask(service.client, rows, case)
        ask(ours.client, rows, case)

        data = service.metric_reader.get_metrics_data()
        assert data is not None
        stock = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        assert comparable_metrics(ours.metrics()) == comparable_metrics(stock)


def test_answers_are_counted_by_label_bin_and_confidence_either_way(
    record: Callable[..., SdkService], model: Model, rows: Rows
) -> None:
    """Low confidence is counted below the bundle's threshold; a regressor's values by the bin they lie in."""
    unsure = replace(model, confidence_threshold=1.0)
    edges = OutputReference(n=3, shares={"00": 0.5, "01": 0.5}, edges=(1.0,))
    values = replace(model, task="regressor", classes=None, output_reference=edges, predict_fn=_values)
    for one_of, name, expected in (
        (unsure, "ml.predictions.low_confidence", {(): 3}),
        (values, "ml.predictions", {(("ml.prediction.bin", "00"),): 2, (("ml.prediction.bin", "01"),): 1}),
    ):
        service = record(one_of)
        with records_service(one_of) as ours:
            for client in (service.client, ours.client):
                assert client.post(**many(rows[:3])).status_code == 200
            data = service.metric_reader.get_metrics_data()
            assert data is not None
            stock = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
            for metrics in (stock, ours.metrics()):
                (found,) = (metric for metric in metrics if metric.name == name)
                assert {
                    tuple(item for item in p.attributes.items() if not item[0].startswith("ml.model")): p.value
                    for p in found.data.data_points
                } == expected


def _values(matrix: Any) -> list[ModelOutput]:
    return [ModelOutput(value=float(index)) for index in range(len(matrix))]


def _breaking(error: Exception) -> Callable[[object], list[ModelOutput]]:
    def fail(_: object) -> list[ModelOutput]:
        raise error

    return fail


@pytest.mark.parametrize("case", ["one row", "many rows, one refused"])
@pytest.mark.parametrize("error", [ZeroDivisionError("secret 42"), ModeltraceError("on purpose")])
def test_failures_are_told_as_the_stock_instrumentation_tells_them(
    record: Callable[..., SdkService], model: Model, rows: Rows, case: str, error: Exception
) -> None:
    """The exception stands on `inference` with its type; the SERVER span is an error with the status as its type."""
    failing = replace(model, predict_fn=_breaking(error))
    service = record(failing)
    with records_service(failing) as ours:
        assert (ask(service.client, rows, case), ask(ours.client, rows, case)) == (500, 500)

        stock = sdk_spans(service)
        assert comparable_spans(ours.spans()) == comparable_spans(stock)


def test_answers_are_the_same_either_way(record: Callable[..., SdkService], model: Model, rows: Rows) -> None:
    """Status, headers and body of the front are those of the routes, but for IDs."""
    service = record(model)
    with records_service(model) as ours:
        for path, body in (
            ("/predict", {"features": rows[0]}),
            ("/predict/batch", {"rows": [rows[0], {}]}),
            ("/predict", {"features": {}}),
            ("/predict", []),
        ):
            theirs, own = (client.post(path, json=body) for client in (service.client, ours.client))
            assert own.status_code == theirs.status_code
            assert set(own.headers) == set(theirs.headers)
            assert own.headers["content-type"] == theirs.headers["content-type"]
            assert _without_ids(own.json()) == _without_ids(theirs.json())


def _without_ids(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _without_ids(value) for key, value in body.items() if key not in ("trace_id", "prediction_id")}
    return [_without_ids(item) for item in body] if isinstance(body, list) else body


def test_a_shared_call_leaves_each_request_its_own_spans(model: Model, rows: Rows) -> None:
    """A request that shared a call has `queue` and `inference` of its own, linked to the span of the call."""
    with records_service(model, batching=True) as ours:
        assert ask(ours.client, rows, "one row") == 200

        spans = {span.name: span for span in ours.spans()}
    assert set(spans) == {"POST /predict", "validate", "queue", "features", "inference", "batch"}
    assert [link.span_id for link in spans["inference"].links] == [spans["batch"].span_id]
    assert [link.span_id for link in spans["batch"].links] == [spans["POST /predict"].span_id]
    assert spans["batch"].trace_id != spans["inference"].trace_id
    server = spans["POST /predict"]
    assert {spans[name].parent_span_id for name in ("validate", "queue", "features", "inference")} == {server.span_id}
