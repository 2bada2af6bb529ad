"""With otel/sampling.yaml, important traces and a share of the others are kept; metrics and logs stay complete."""

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from scipy.stats import binom

from tests.helpers.backends import RealStack, real_stack_of
from tests.helpers.collector import BASE, OTEL, Collector, running_collector, running_sink
from tests.helpers.processes import wait_until
from tests.helpers.services import running_service
from tests.helpers.stack import running_stack
from tests.helpers.toy import CONFIDENT, FAILING, LOW_CONFIDENCE, SLOW, pack_toy, row

pytestmark = [pytest.mark.stack, pytest.mark.slow]

PIN = {"baggage": "modeltrace.pin=1"}

SAMPLING = OTEL / "sampling.yaml"
WAIT = 3.0
PERCENTAGE = 20
LOW = 0.6  # the default of OTELCOL_SAMPLING_CONFIDENCE
ORDINARY, OF_EACH_KIND = 300, 8
# Probability of rejecting a correct share.
ALPHA = 1e-6


@dataclass(frozen=True)
class Sampled:
    """A stack with sampling, and the trace IDs of the requests sent through it, by kind."""

    backend: RealStack
    metrics: str
    sent: dict[str, list[str]]

    def stored(self, kind: str) -> list[str]:
        """Return the trace IDs of a kind that Jaeger has."""
        return [trace_id for trace_id in self.sent[kind] if self.backend.spans(trace_id)]

    def decided(self, sampled: str) -> int:
        """Return the number of kept or dropped traces in the metrics of the Collector."""
        return _decided(self.metrics, sampled)


def _decided(metrics: str, sampled: str) -> int:
    text = httpx.get(metrics).raise_for_status().text
    name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith(name) and f'sampled="{sampled}"' in line
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampled]:
    """Send requests of every kind in mixed order, each with its own trace ID."""
    environment = {"OTELCOL_SAMPLING_WAIT": f"{WAIT}s", "OTELCOL_SAMPLING_PERCENTAGE": str(PERCENTAGE)}
    with ExitStack() as stack:
        real = stack.enter_context(running_stack(collector_configs=[SAMPLING], environment=environment))
        backend = real_stack_of(real, stack.enter_context(httpx.Client(timeout=30)))
        bundle, needs = pack_toy(tmp_path_factory.mktemp("toy"))
        sent = send(stack.enter_context(running_service(bundle, backend.otlp_url, **needs)).url)
        metrics = f"http://{real.layout.address('otelcol', 'metrics')}/metrics"
        number = sum(len(ids) for ids in sent.values())
        wait_until(lambda: _decided(metrics, "true") + _decided(metrics, "false") >= number, description="decisions")
        yield Sampled(backend, metrics, sent)


def send(url: str) -> dict[str, list[str]]:
    """Send all kinds of requests and return the trace IDs by kind."""
    bodies: dict[str, tuple[str, Any, int]] = {
        "ordinary": ("predict", {"features": row(CONFIDENT)}, 200),
        "unsure": ("predict", {"features": row(LOW_CONFIDENCE)}, 200),
        "slow": ("predict", {"features": row(SLOW)}, 200),
        "broken": ("predict", {"features": row(FAILING)}, 500),
        "refused": ("predict", {"features": {"a": "wide"}}, 422),
        "partly refused": ("predict/batch", {"rows": [row(CONFIDENT), {"a": "wide"}]}, 200),
        "partly unsure": ("predict/batch", {"rows": [row(CONFIDENT), row(LOW_CONFIDENCE)]}, 200),
        "pinned": ("predict", {"features": row(CONFIDENT)}, 200),
    }
    kinds = [*bodies] * OF_EACH_KIND + ["ordinary"] * (ORDINARY - OF_EACH_KIND)
    random.shuffle(kinds)
    sent: dict[str, list[str]] = {kind: [] for kind in bodies}
    with httpx.Client(base_url=url, timeout=30) as client:
        for kind in kinds:
            path, body, status = bodies[kind]
            answer = client.post(f"/{path}", json=body, headers=PIN if kind == "pinned" else {})
            assert answer.status_code == status, answer.text
            if "confidence" in answer.json():
                assert (answer.json()["confidence"] < LOW) == (kind == "unsure")
            sent[kind].append(answer.json()["trace_id"])
    return sent


@pytest.mark.parametrize("kind", ["unsure", "slow", "broken", "refused", "partly refused", "partly unsure", "pinned"])
def test_important_traces_are_kept(sampled: Sampled, kind: str) -> None:
    """All failed, rejected, slow, low-confidence and pinned requests are in Jaeger, and batches with such a row."""
    wait_until(lambda: sampled.stored(kind) == sampled.sent[kind], description=f"all {kind} traces")


def test_a_kept_trace_is_complete(sampled: Sampled) -> None:
    """It has all four spans of a prediction."""
    for trace_id in sampled.sent["unsure"]:
        wait_until(lambda trace_id=trace_id: len(sampled.backend.spans(trace_id)) == 4, description="four spans")  # type: ignore[misc]


def test_a_share_of_the_other_traces_is_kept(sampled: Sampled) -> None:
    """The share equals the configured percentage, within statistical limits."""
    wait_until(
        lambda: sampled.stored("unsure") == sampled.sent["unsure"], description="the traces decided at the same time"
    )
    lowest, highest = binom.interval(1 - ALPHA, ORDINARY, PERCENTAGE / 100)

    stored_count = len(sampled.stored("ordinary"))

    print(f"{stored_count} of {ORDINARY} kept at {PERCENTAGE} %")  # noqa: T201
    assert lowest <= stored_count <= highest


def test_sampled_and_dropped_traces_are_counted(sampled: Sampled) -> None:
    """The metrics of the Collector count kept and dropped traces."""
    stored_count = sum(len(sampled.stored(kind)) for kind in sampled.sent)
    number = sum(len(ids) for ids in sampled.sent.values())

    assert (sampled.decided("true"), sampled.decided("false")) == (stored_count, number - stored_count)


def test_span_metrics_count_every_request(sampled: Sampled) -> None:
    """Span metrics are computed before sampling."""
    number = len([trace_id for kind, ids in sampled.sent.items() if "partly" not in kind for trace_id in ids])
    query = "sum(traces_span_metrics_calls_total{span_name='POST /predict'})"

    def counted() -> float:
        return sum(float(series["value"][1]) for series in sampled.backend.query(query))

    wait_until(lambda: counted() >= number, description=f"{number} calls")
    assert counted() == number


def test_all_prediction_log_records_are_stored(sampled: Sampled) -> None:
    """Logs are not sampled, so a prediction without a trace still has its record."""
    records = {"ordinary": 1, "unsure": 1, "slow": 1, "partly refused": 1, "partly unsure": 2}
    for trace_id, number in [(trace_id, number) for kind, number in records.items() for trace_id in sampled.sent[kind]]:
        expected = (trace_id, number)
        wait_until(
            lambda expected=expected: sampled.backend.prediction_count(expected[0]) == expected[1],
            description="its records",
        )  # type: ignore[misc]


def test_span_metrics_have_no_exemplars(sampled: Sampled) -> None:
    """Exemplars would be chosen before the sampling decision, and most would have no trace."""
    now = time.time()
    answer = sampled.backend.client.get(
        f"{sampled.backend.prometheus}/api/v1/query_exemplars",
        params={"query": '{__name__=~"traces_span_metrics_.+"}', "start": now - 3600, "end": now + 60},
    )

    assert answer.raise_for_status().json()["data"] == []


def test_exemplars_of_failed_requests_lead_to_their_trace(sampled: Sampled) -> None:
    """The service prefers failed requests as exemplars, and their traces are kept."""
    failed = {*sampled.sent["broken"], *sampled.sent["refused"]}
    named = {trace_id for trace_id in failed if sampled.backend.exemplars(trace_id)}

    assert named
    assert named <= {trace_id for trace_id in named if sampled.backend.spans(trace_id)}


def emit(otlp: str, trace_id: str, attributes: dict[str, Any]) -> None:
    """Send one span of a trace."""
    parent = SpanContext(int(trace_id, 16), secrets.randbits(63) + 1, is_remote=True, trace_flags=TraceFlags(1))
    tracers = TracerProvider(resource=Resource({"service.name": "planted"}))
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces")))
    context = set_span_in_context(NonRecordingSpan(parent))
    tracers.get_tracer("planted").start_span("planted", context, attributes=attributes).end()
    tracers.shutdown()


def test_late_spans_follow_the_decision(tmp_path: Path) -> None:
    """A span after the decision is kept if its trace was kept, or if the trace is pinned."""
    pinned, ordinary = secrets.token_hex(16), secrets.token_hex(16)
    environment = {"OTELCOL_SAMPLING_WAIT": "1s", "OTELCOL_SAMPLING_PERCENTAGE": "0"}
    with ExitStack() as stack:
        sink = stack.enter_context(running_sink(tmp_path / "sink"))
        collector = stack.enter_context(
            running_collector(BASE, SAMPLING, data=tmp_path / "collector", **sink.backends, **environment)
        )
        emit(collector.http, pinned, {"modeltrace.pin": True})
        emit(collector.http, ordinary, {"http.response.status_code": 200})
        decided = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        wait_until(lambda: collector.metric(decided) == 2, description="both decisions")

        emit(collector.http, ordinary, {"http.response.status_code": 500})
        emit(collector.http, pinned, {})
        wait_until(lambda: len(sink.items("traces")) == 2, description="both spans of the pinned trace")
        time.sleep(2)

        assert [span["traceId"] for span in sink.items("traces")] == [pinned, pinned]
        early = "otelcol_processor_tail_sampling_early_releases_from_cache_decision"
        assert collector.metric(early, sampled="true") == collector.metric(early, sampled="false") == 1


def test_a_stop_decides_the_waiting_traces(tmp_path: Path) -> None:
    """Traces that wait when the Collector stops are decided with the spans received so far; none is lost."""
    failed = secrets.token_hex(16)
    with running_sink(tmp_path / "sink") as sink:
        collector = Collector([BASE, SAMPLING], tmp_path / "collector", sink.backends)
        collector.start()
        emit(collector.http, failed, {"http.response.status_code": 503})
        collector.stop()
        collector.start()  # items that the exporter could not send are on disk

        wait_until(lambda: sink.items("traces"), description="the failed trace")
        collector.stop()
        assert [span["traceId"] for span in sink.items("traces")] == [failed]
