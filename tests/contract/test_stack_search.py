"""The searches of Jaeger, Loki and Prometheus that users need find the right prediction."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from modeltrace.bundles.pack import pack
from tests.helpers.backends import RealStack, wait_for_records
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service
from tests.helpers.toy import FAILING, pack_toy, row

pytestmark = pytest.mark.stack
Rows = list[dict[str, float]]

WIDE = 300
REQUEST_BUCKETS = "http_server_request_duration_seconds_bucket"


@pytest.fixture(scope="module")
def url(bundle: Path, real_stack: RealStack) -> Iterator[str]:
    """The URL of a service that exports to the stack."""
    with running_service(bundle, real_stack.otlp_url) as (_, url):
        yield url


@pytest.fixture(scope="module")
def predicted(url: str, real_stack: RealStack, rows: Rows) -> dict[str, Any]:
    """The response of a prediction whose spans have arrived."""
    answer = httpx.post(f"{url}/predict", json={"features": rows[0]}, headers={"baggage": "modeltrace.pin=1"})
    predicted: dict[str, Any] = answer.raise_for_status().json()
    wait_for_records(real_stack, predicted["trace_id"], "spans", 4)
    return predicted


def search(real_stack: RealStack, **params: str) -> set[str]:
    """Search Jaeger for traces of the service and return their IDs."""
    answer = real_stack.client.get(
        f"{real_stack.jaeger}/api/traces", params={"service": "modeltrace", "lookback": "1h", "limit": "500", **params}
    )
    return {trace["traceID"] for trace in answer.raise_for_status().json()["data"]}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"operation": "POST /predict"},
        {"operation": "inference"},
        {"minDuration": "10us", "maxDuration": "1m"},
        {"tags": json.dumps({"ml.model.version": "1.0.0"})},
        {"tags": json.dumps({"ml.model.name": "breast-cancer", "http.route": "/predict"})},
    ],
    ids=str,
)
def test_jaeger_finds_a_trace(real_stack: RealStack, predicted: dict[str, Any], params: dict[str, str]) -> None:
    """A search by service, operation, duration or tags returns the trace."""
    wait_until(lambda: predicted["trace_id"] in search(real_stack, **params), description=f"the trace by {params}")


@pytest.mark.parametrize(
    "params",
    [
        {"operation": "POST /feedback"},
        {"minDuration": "1m"},
        {"tags": json.dumps({"ml.model.version": "0.0.0"})},
        {"tags": json.dumps({"error": "true"})},
    ],
    ids=str,
)
def test_jaeger_does_not_find_a_trace_that_does_not_match(
    real_stack: RealStack, predicted: dict[str, Any], params: dict[str, str]
) -> None:
    """A search by another operation, duration, version or outcome does not return the trace."""
    assert predicted["trace_id"] not in search(real_stack, **params)


def test_jaeger_finds_a_trace_by_label_and_prediction_id(real_stack: RealStack, predicted: dict[str, Any]) -> None:
    """`ml.prediction.label` and `ml.prediction.id` are tags."""
    for name in ("ml.prediction.label", "ml.prediction.id"):
        value = predicted["label"] if name.endswith("label") else predicted["prediction_id"]
        trace_ids = search(real_stack, tags=json.dumps({name: value}))
        assert predicted["trace_id"] in trace_ids
    assert trace_ids == {predicted["trace_id"]}


@pytest.mark.parametrize(
    "tags",
    [
        {"error.type": "invalid_features"},
        {"http.response.status_code": "422"},
        {"ml.feature.name": "mean_radius", "ml.data.violation.reason": "type"},
    ],
    ids=str,
)
def test_jaeger_finds_a_rejected_request(url: str, real_stack: RealStack, tags: dict[str, str]) -> None:
    """A search by its status, its error type or the violated feature returns the trace."""
    rejected = httpx.post(f"{url}/predict", json={"features": {"mean_radius": "wide"}})
    assert rejected.status_code == 422
    trace_id = rejected.json()["trace_id"]

    wait_until(lambda: trace_id in search(real_stack, tags=json.dumps(tags)), description="the rejected request")


def test_jaeger_finds_a_failed_request_by_error(real_stack: RealStack, tmp_path: Path) -> None:
    """A search by `error=true` finds the request in which the model failed; the span has the type of the exception."""
    bundle, env = pack_toy(tmp_path)
    with running_service(bundle, real_stack.otlp_url, **env) as (_, url):
        failed = httpx.post(f"{url}/predict", json={"features": row(FAILING)})
        assert failed.status_code == 500
        trace_id = failed.json()["trace_id"]

        wait_until(
            lambda: trace_id in search(real_stack, tags=json.dumps({"error": "true"})), description="the failed request"
        )
    inference = next(span for span in real_stack.spans(trace_id) if span["name"] == "inference")
    assert inference["attributes"]["error.type"].endswith(".BrokenError")


def test_the_log_store_finds_exactly_the_records_of_a_trace(
    url: str, real_stack: RealStack, predicted: dict[str, Any], rows: Rows
) -> None:
    """A trace ID finds the access line and the prediction log record of its request, and none of other requests."""
    httpx.post(f"{url}/predict", json={"features": rows[1]}).raise_for_status()
    trace_id = predicted["trace_id"]

    logs = wait_for_records(real_stack, trace_id, "logs", 2)

    assert sorted(log["scope_name"] for log in logs) == ["modeltrace.prediction", "uvicorn.access"]
    assert {log["trace_id"] for log in logs} == {trace_id}


@pytest.mark.loki
def test_loki_has_few_index_labels(real_stack: RealStack, predicted: dict[str, Any]) -> None:
    """Only the names of a service are index labels, not its instance, trace IDs or features."""
    wait_for_records(real_stack, predicted["trace_id"], "logs", 2)
    labels = real_stack.client.get(f"{real_stack.loki.url}/loki/api/v1/labels").raise_for_status().json()["data"]

    # Loki adds the label __stream_shard__ itself, after a large batch.
    index_labels = {label for label in labels if not label.startswith("__")}
    assert "service_name" in index_labels
    assert index_labels <= {"service_name", "service_namespace", "deployment_environment_name"}


def test_an_exemplar_of_the_latency_histogram_leads_to_the_trace(
    real_stack: RealStack, predicted: dict[str, Any]
) -> None:
    """The exemplars of the query of a dashboard panel contain the trace ID."""

    def exemplars() -> set[str]:
        now = time.time()
        answer = real_stack.client.get(
            f"{real_stack.prometheus}/api/v1/query_exemplars",
            params={
                "query": f"histogram_quantile(0.95, sum by (le) (rate({REQUEST_BUCKETS}[5m])))",
                "start": now - 600,
                "end": now,
            },
        )
        series = answer.raise_for_status().json()["data"]
        return {exemplar["labels"]["trace_id"] for item in series for exemplar in item["exemplars"]}

    wait_until(lambda: predicted["trace_id"] in exemplars(), description="the exemplar")


def test_span_metrics_count_every_span_and_feed_the_monitor_tab(
    real_stack: RealStack, predicted: dict[str, Any]
) -> None:
    """The Collector computes rate, errors and duration of spans, and Jaeger shows them for the service."""
    assert predicted["trace_id"]

    def rates() -> list[Any]:
        answer = real_stack.client.get(
            f"{real_stack.jaeger}/api/metrics/calls",
            params={"service": "modeltrace", "quantile": 0.95, "ratePer": 60_000, "step": 5_000, "lookback": 600_000},
        )
        return [metric["metricPoints"] for metric in answer.raise_for_status().json()["metrics"]]

    wait_until(lambda: real_stack.query("traces_span_metrics_calls_total{span_name='inference'}"), description="calls")
    wait_until(rates, description="the service's rates in Jaeger")


def test_samplers_can_fetch_their_strategy(real_stack: RealStack) -> None:
    """Jaeger serves the strategy of deploy/jaeger/sampling.json."""
    answer = real_stack.client.get(f"{real_stack.sampling}/sampling", params={"service": "modeltrace"})
    strategy = answer.raise_for_status().json()

    assert strategy["probabilisticSampling"]["samplingRate"] == 1


def test_a_wide_prediction_log_record_is_stored_completely(real_stack: RealStack, tmp_path: Path) -> None:
    """The record of a model with 300 features is stored with all inputs."""
    rng = np.random.default_rng(7)
    training = pd.DataFrame(rng.normal(size=(80, WIDE)), columns=[f"feature_{n:03}" for n in range(WIDE)])
    bundle = pack(
        LogisticRegression().fit(training, rng.integers(0, 2, 80)), training, name="wide", out=tmp_path / "wide"
    )
    with running_service(bundle, real_stack.otlp_url) as (_, url):
        inputs = training.iloc[0].to_dict()
        answer = httpx.post(f"{url}/predict", json={"features": inputs}).raise_for_status().json()
        (record,) = wait_for_records(real_stack, answer["trace_id"], "predictions")

    assert record["attributes"]["ml.prediction.inputs"] == pytest.approx(inputs)
