"""A prediction, then its label: everything about both is found by the prediction's trace ID, or is one link away."""

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
def test_a_label_is_found_by_the_trace_of_its_prediction(
    bundle: Path, backend: Backend, rows: Rows, tmp_path: Path, instrumentation: str
) -> None:
    """A linked span, a metric point whose exemplar is the prediction, a log record, and a row in the store."""
    store = str(tmp_path / "s.db")
    env = {"MODELTRACE_STORE": store, "MODELTRACE_INSTRUMENTATION": instrumentation}
    with running_service(bundle, backend.otlp_url, **env) as (_, url):
        predicted = httpx.post(f"{url}/predict", json={"features": rows[0]}).json()
        wrong = next(one for one in CLASSES if one != predicted["label"])
        said = {"prediction_id": predicted["prediction_id"], "label": wrong}
        answer = httpx.post(f"{url}/feedback", json=said, headers=PIN, timeout=30)
        assert answer.status_code == 200
        assert answer.json() == {
            "prediction_id": predicted["prediction_id"], "status": "new", "trace_id": predicted["trace_id"],
        }  # fmt: skip
        own = answer.headers["x-trace-id"]

        # The request with the label: a trace of its own, linked to the prediction's span.
        server = next(s for s in wait_for_records(backend, predicted["trace_id"], "spans", 4) if s["kind"] == "SERVER")
        spans = {span["name"]: span for span in wait_for_records(backend, own, "spans", 2)}
        assert set(spans) == {"POST /feedback", "feedback"}
        label = spans["feedback"]
        assert label["parent_span_id"] == spans["POST /feedback"]["span_id"]
        assert [(one["trace_id"], one["span_id"]) for one in label["links"]] == [
            (predicted["trace_id"], server["span_id"])
        ]
        assert label["attributes"]["ml.prediction.id"] == predicted["prediction_id"]
        (log,) = (
            log for log in wait_for_records(backend, own, "logs", 2) if log["scope_name"] == "modeltrace.feedback"
        )
        assert log["event_name"] == "ml.feedback"
        assert log["attributes"]["ml.prediction.trace_id"] == predicted["trace_id"]
        assert log["attributes"]["ml.feedback.label"] == wrong

        # The metric: its exemplar is the trace of the wrong prediction.
        def found() -> list[dict[str, Any]]:
            exemplars = backend.trace(predicted["trace_id"])["exemplars"]
            return [one for one in exemplars if one["metric_name"] == "ml.feedback"]

        (exemplar,) = wait_until(found, description="the exemplar of ml.feedback")
        assert exemplar["span_id"] == server["span_id"]
        assert exemplar["attributes"]["ml.feedback.label"] == wrong
        assert exemplar["attributes"]["ml.prediction.label"] == predicted["label"]

    with open_store(store, create=False) as opened:
        row = opened.find(predicted["prediction_id"])
    assert row is not None
    assert (row.trace_id, row.label, row.true_label) == (predicted["trace_id"], predicted["label"], wrong)


def signed(number: int, ids: PredictionIdSigner, now: int) -> str:
    """The ID of a prediction that some replica has answered."""
    return ids.sign(PredictionRef(number + 1, number + 1, 0, now, "1.0.0", CLASSES[number % 2]))


def post(client: httpx.Client, items: Sequence[dict[str, str]], size: int = 5000) -> Counter[str]:
    """Post labels in lists; how many were new, the same, or refused."""
    statuses: Counter[str] = Counter()
    for start in range(0, len(items), size):
        answer = client.post("/feedback", json={"items": items[start : start + size]}, timeout=120)
        assert answer.status_code == 200, answer.text
        statuses.update(one.get("status", "refused") for one in answer.json()["results"])
    return statuses


@pytest.mark.extended
def test_replicas_that_get_the_same_labels_take_each_once(bundle: Path, store_url: str) -> None:
    """Two services on one store, asked at the same time in different orders, some of it contradictory."""
    number = 3000
    ids = PredictionIdSigner(ID_KEY.encode())
    names = [signed(n, ids, time.time_ns()) for n in range(number)]
    chance = random.Random(7)  # noqa: S311  an order, no secret
    # Of every tenth prediction, the second replica is told something else.
    told = [
        [{"prediction_id": one, "label": CLASSES[replica if n % 10 == 0 else 0]} for n, one in enumerate(names)]
        for replica in range(2)
    ]
    env = {"MODELTRACE_STORE": store_url}
    nowhere = f"http://127.0.0.1:{free_port()}"
    with running_service(bundle, nowhere, **env) as (_, one), running_service(bundle, nowhere, **env) as (_, two):

        def tell(replica: int) -> Counter[str]:
            with httpx.Client(base_url=(one, two)[replica], timeout=120) as client:
                return post(client, chance.sample(told[replica], number), size=150)

        with ThreadPoolExecutor(2) as pool:
            statuses = sum(pool.map(tell, range(2)), Counter[str]())

    conflicts = number // 10
    assert statuses == {"new": number, "same": number - conflicts, "refused": conflicts}
    with open_store(store_url, create=False) as store:
        assert store.counts().labels == number


class Counted:
    """What an endpoint got about labels: by span ID, by prediction ID, and the last point of each series."""

    def __init__(self) -> None:
        self.spans: dict[bytes, bytes] = {}
        self.logs: set[str] = set()
        self.points: dict[tuple[str, str, str], int] = {}

    def take(self, sent: ReceivedRequest) -> Response:
        """Look through one request."""
        body = gzip.decompress(sent.body) if sent.headers.get("content-encoding") == "gzip" else sent.body
        take = {"/v1/traces": self._take_spans, "/v1/logs": self._take_logs, "/v1/metrics": self._take_points}
        take[sent.path](body)
        return Response()

    def _take_spans(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for span in (span for scope in resource.scope_spans for span in scope.spans if span.name == "feedback"):
                self.spans[span.span_id] = span.links[0].trace_id

    def _take_logs(self, body: bytes) -> None:
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for log in (log for scope in resource.scope_logs for log in scope.log_records):
                if log.event_name == "ml.feedback":
                    self.logs.add(said(log.attributes)["ml.prediction.id"])

    def _take_points(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = said(resource.resource.attributes)["service.instance.id"]
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                for point in metric.sum.data_points if metric.name == "ml.feedback" else ():
                    cell = said(point.attributes)
                    series = (instance, cell["ml.feedback.label"], cell["ml.prediction.label"])
                    self.points[series] = point.as_int

    def cells(self) -> Counter[tuple[str, str]]:
        """The confusion counts, added up over all processes."""
        counts: Counter[tuple[str, str]] = Counter()
        for (_, *cell), number in self.points.items():
            counts[cell[0], cell[1]] += number
        return counts


def said(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes that are text."""
    return {one.key: one.value.string_value for one in attributes}


@pytest.mark.extended
def test_100_000_labels_twice_in_any_order_with_restarts_count_exactly(bundle: Path, tmp_path: Path) -> None:
    """Each label once: in the store, in the metric series of all processes together, as a span and as a log record."""
    number, lives = 100_000, 4
    ids = PredictionIdSigner(ID_KEY.encode())
    now = time.time_ns()
    chance = random.Random(6)  # noqa: S311  an order, no secret
    truths = [chance.choice(CLASSES) for _ in range(number)]
    labels = [{"prediction_id": signed(n, ids, now), "label": true} for n, true in enumerate(truths)]
    expected = Counter((true, CLASSES[n % 2]) for n, true in enumerate(truths))
    twice = [*chance.sample(labels, number), *chance.sample(labels, number)]
    # Not in halves: what is the same is met before and after a restart.
    shares = [twice[life::lives] for life in range(lives)]
    env = {"MODELTRACE_STORE": str(tmp_path / "s.db"), "MODELTRACE_SPOOL_DIR": str(tmp_path / "spool"), **LONG_FLUSH}
    statuses: Counter[str] = Counter()
    counted, took = Counted(), 0.0

    with otlp_http() as endpoint:
        endpoint.respond = counted.take
        for share in shares:
            with running_service(bundle, endpoint.url, **env) as (service, url), httpx.Client(base_url=url) as client:
                begun = time.perf_counter()
                statuses += post(client, share)
                took += time.perf_counter() - begun
                if share is shares[-1]:
                    wait_until(lambda: len(counted.logs) == len(counted.spans) == number, description="all of it")
                service.stop(signal.SIGTERM)
                assert "not delivered" not in service.log
    print(f"{len(twice) / took:,.0f} labels a second, half of them new")  # noqa: T201

    assert statuses == {"new": number, "same": number}
    with open_store(env["MODELTRACE_STORE"], create=False) as store:
        assert store.counts().labels == number
    assert counted.cells() == expected
    assert len(set(counted.spans.values())) == number
