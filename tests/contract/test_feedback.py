"""Labels: their span, log record, exemplar and stored row lead to the prediction, and each label counts once."""

import gzip
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from modeltrace.inference.prediction_ids import PredictionIdSigner, PredictionRef
from modeltrace.store.store import open_store
from tests.helpers.backends import Backend, wait_for_records
from tests.helpers.processes import free_port, wait_until
from tests.helpers.receivers import ReceivedRequest, Response, otlp_http
from tests.helpers.services import ID_KEY, LONG_FLUSH, running_service

pytestmark = pytest.mark.slow

PIN = {"baggage": "modeltrace.pin=1"}
CLASSES = ("benign", "malignant")
Rows = list[dict[str, float]]


@pytest.mark.parametrize("instrumentation", ["sidecar", "sdk"])
def test_a_label_is_linked_to_the_trace_of_its_prediction(
    bundle: Path, backend: Backend, rows: Rows, tmp_path: Path, instrumentation: str
) -> None:
    """A label has a span with a link to the prediction, an exemplar with its trace, a log record and a stored row."""
    store = str(tmp_path / "s.db")
    env = {"MODELTRACE_STORE": store, "MODELTRACE_INSTRUMENTATION": instrumentation}
    with running_service(bundle, backend.otlp_url, **env) as (_, url):
        predicted = httpx.post(f"{url}/predict", json={"features": rows[0]}).json()
        true_label = next(label for label in CLASSES if label != predicted["label"])
        body = {"prediction_id": predicted["prediction_id"], "label": true_label}
        answer = httpx.post(f"{url}/feedback", json=body, headers=PIN, timeout=30)
        assert answer.status_code == 200
        assert answer.json() == {
            "prediction_id": predicted["prediction_id"], "status": "new", "trace_id": predicted["trace_id"],
        }  # fmt: skip
        own = answer.headers["x-trace-id"]

        # The request with the label has its own trace, with a link to the span of the prediction.
        server = next(s for s in wait_for_records(backend, predicted["trace_id"], "spans", 4) if s["kind"] == "SERVER")
        spans = {span["name"]: span for span in wait_for_records(backend, own, "spans", 2)}
        assert set(spans) == {"POST /feedback", "feedback"}
        label = spans["feedback"]
        assert label["parent_span_id"] == spans["POST /feedback"]["span_id"]
        assert [(link["trace_id"], link["span_id"]) for link in label["links"]] == [
            (predicted["trace_id"], server["span_id"])
        ]
        assert label["attributes"]["ml.prediction.id"] == predicted["prediction_id"]
        (log,) = (
            log for log in wait_for_records(backend, own, "logs", 2) if log["scope_name"] == "modeltrace.feedback"
        )
        assert log["event_name"] == "ml.feedback"
        assert log["attributes"]["ml.prediction.trace_id"] == predicted["trace_id"]
        assert log["attributes"]["ml.feedback.label"] == true_label

        # The exemplar of the metric is the trace of the prediction.
        def feedback_exemplars() -> list[dict[str, Any]]:
            exemplars = backend.trace(predicted["trace_id"])["exemplars"]
            return [exemplar for exemplar in exemplars if exemplar["metric_name"] == "ml.feedback"]

        (exemplar,) = wait_until(feedback_exemplars, description="the exemplar of ml.feedback")
        assert exemplar["span_id"] == server["span_id"]
        assert exemplar["attributes"]["ml.feedback.label"] == true_label
        assert exemplar["attributes"]["ml.prediction.label"] == predicted["label"]

    with open_store(store, create=False) as opened:
        row = opened.find(predicted["prediction_id"])
    assert row is not None
    assert (row.trace_id, row.label, row.true_label) == (predicted["trace_id"], predicted["label"], true_label)


def signed_id(number: int, ids: PredictionIdSigner, now: int) -> str:
    """Return the ID of a prediction as a replica with the same key signs it."""
    return ids.sign(PredictionRef(number + 1, number + 1, 0, now, "1.0.0", CLASSES[number % 2]))


def post(client: httpx.Client, items: Sequence[dict[str, str]], size: int = 5000) -> Counter[str]:
    """Post labels in lists of `size`. Return how many were new, the same, or refused."""
    statuses: Counter[str] = Counter()
    for start in range(0, len(items), size):
        answer = client.post("/feedback", json={"items": items[start : start + size]}, timeout=120)
        assert answer.status_code == 200, answer.text
        statuses.update(result.get("status", "refused") for result in answer.json()["results"])
    return statuses


@pytest.mark.extended
def test_replicas_that_receive_the_same_labels_store_each_once(bundle: Path, store_url: str) -> None:
    """Two services with one store receive the same labels at the same time in different orders; a tenth contradict."""
    number = 3000
    ids = PredictionIdSigner(ID_KEY.encode())
    prediction_ids = [signed_id(n, ids, time.time_ns()) for n in range(number)]
    rng = random.Random(7)  # noqa: S311  an order, no secret
    # The second replica receives another label for every tenth prediction.
    labels = [
        [{"prediction_id": of, "label": CLASSES[replica if n % 10 == 0 else 0]} for n, of in enumerate(prediction_ids)]
        for replica in range(2)
    ]
    env = {"MODELTRACE_STORE": store_url}
    unavailable = f"http://127.0.0.1:{free_port()}"
    with (
        running_service(bundle, unavailable, **env) as (_, first),
        running_service(bundle, unavailable, **env) as (_, second),
    ):

        def send_labels(replica: int) -> Counter[str]:
            with httpx.Client(base_url=(first, second)[replica], timeout=120) as client:
                return post(client, rng.sample(labels[replica], number), size=150)

        with ThreadPoolExecutor(2) as pool:
            statuses = sum(pool.map(send_labels, range(2)), Counter[str]())

    conflicts = number // 10
    assert statuses == {"new": number, "same": number - conflicts, "refused": conflicts}
    with open_store(store_url, create=False) as store:
        assert store.counts().labels == number


class FeedbackReceiver:
    """The spans, log records and last metric points of labels that an endpoint has received."""

    def __init__(self) -> None:
        self.spans: dict[bytes, bytes] = {}
        self.logs: set[str] = set()
        self.points: dict[tuple[str, str, str], int] = {}

    def receive(self, request: ReceivedRequest) -> Response:
        """Record the telemetry of labels in a request."""
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        record = {"/v1/traces": self._record_spans, "/v1/logs": self._record_logs, "/v1/metrics": self._record_points}
        record[request.path](body)
        return Response()

    def _record_spans(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in (span for scope in resource.scope_spans for span in scope.spans if span.name == "feedback"):
                self.spans[span.span_id] = span.links[0].trace_id

    def _record_logs(self, body: bytes) -> None:
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for log in (log for scope in resource.scope_logs for log in scope.log_records):
                if log.event_name == "ml.feedback":
                    self.logs.add(text_attributes(log.attributes)["ml.prediction.id"])

    def _record_points(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = text_attributes(resource.resource.attributes)["service.instance.id"]
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                for point in metric.sum.data_points if metric.name == "ml.feedback" else ():
                    cell = text_attributes(point.attributes)
                    series = (instance, cell["ml.feedback.label"], cell["ml.prediction.label"])
                    self.points[series] = point.as_int

    def cells(self) -> Counter[tuple[str, str]]:
        """Return the confusion counts, summed over all processes, by true and predicted label."""
        counts: Counter[tuple[str, str]] = Counter()
        for (_, *cell), number in self.points.items():
            counts[cell[0], cell[1]] += number
        return counts


def text_attributes(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Return the text of attributes by their key."""
    return {attribute.key: attribute.value.string_value for attribute in attributes}


@pytest.mark.extended
def test_100_000_labels_twice_in_any_order_with_restarts_count_exactly(bundle: Path, tmp_path: Path) -> None:
    """Each label is stored once, counted once over all processes, and has one span and one log record."""
    number, starts = 100_000, 4
    ids = PredictionIdSigner(ID_KEY.encode())
    now = time.time_ns()
    rng = random.Random(6)  # noqa: S311  an order, no secret
    truths = [rng.choice(CLASSES) for _ in range(number)]
    labels = [{"prediction_id": signed_id(n, ids, now), "label": true} for n, true in enumerate(truths)]
    expected = Counter((true, CLASSES[n % 2]) for n, true in enumerate(truths))
    twice = [*rng.sample(labels, number), *rng.sample(labels, number)]
    # Labels are interleaved, so that repeated ones arrive both before and after a restart.
    shares = [twice[start::starts] for start in range(starts)]
    env = {"MODELTRACE_STORE": str(tmp_path / "s.db"), "MODELTRACE_SPOOL_DIR": str(tmp_path / "spool"), **LONG_FLUSH}
    statuses: Counter[str] = Counter()
    received, seconds = FeedbackReceiver(), 0.0

    with otlp_http() as endpoint:
        endpoint.respond = received.receive
        for share in shares:
            with running_service(bundle, endpoint.url, **env) as (service, url), httpx.Client(base_url=url) as client:
                start = time.perf_counter()
                statuses += post(client, share)
                seconds += time.perf_counter() - start
                if share is shares[-1]:
                    wait_until(
                        lambda: len(received.logs) == len(received.spans) == number,
                        description="all spans and log records of labels",
                    )
                service.stop(signal.SIGTERM)
                assert "not delivered" not in service.log
    print(f"{len(twice) / seconds:,.0f} labels a second, half of them new")  # noqa: T201

    assert statuses == {"new": number, "same": number}
    with open_store(env["MODELTRACE_STORE"], create=False) as store:
        assert store.counts().labels == number
    assert received.cells() == expected
    assert len(set(received.spans.values())) == number
