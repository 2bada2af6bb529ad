"""One agent and two gateways: all spans of a trace reach the same gateway, so it samples complete traces."""

import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tests.helpers.collector import BASE, OTEL, Collector, Sink, attributes, running_collector, running_sink
from tests.helpers.many import Server, running_kafka
from tests.helpers.processes import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

TIERS = OTEL / "tiers"
SAMPLING = OTEL / "sampling.yaml"
TRACES = 60
NAMES = ("gateway-0", "gateway-1")


def emit(otlp: str, service: str, trace_ids: list[str], attributes: dict[str, Any]) -> None:
    """Send one span of each trace as a service, one request per span."""
    tracers = TracerProvider(resource=Resource({"service.name": service}))
    tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{otlp}/v1/traces")))
    for trace_id in trace_ids:
        parent = SpanContext(int(trace_id, 16), secrets.randbits(63) + 1, is_remote=True, trace_flags=TraceFlags(1))
        context = set_span_in_context(NonRecordingSpan(parent))
        tracers.get_tracer(service).start_span(service, context, attributes=attributes).end()
    tracers.shutdown()


@dataclass(frozen=True)
class Tiers:
    """An agent, the gateways behind it, and what each gateway forwarded."""

    agent: Collector
    gateways: dict[str, Collector]
    sinks: dict[str, Sink]

    def arrived(self) -> dict[str, set[tuple[str, str]]]:
        """Return trace ID and service of every span that each gateway forwarded."""
        return {
            name: {(span["traceId"], span["resource"]["service.name"]) for span in sink.items("traces")}
            for name, sink in self.sinks.items()
        }


def kafka_variables(broker: Server) -> dict[str, str]:
    """Return the Collectors' variables for topics and a consumer group that nobody else uses."""
    return {
        "KAFKA_BROKERS": broker.address,
        "KAFKA_TOPIC_PREFIX": f"t{secrets.token_hex(4)}",
        "KAFKA_GROUP": secrets.token_hex(4),
    }


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a Kafka broker."""
    with running_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(params=["otlp", pytest.param("kafka", marks=[pytest.mark.many, pytest.mark.xdist_group("kafka")])])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tiers]:
    """Run one agent and two sampling gateways, connected by OTLP or by Kafka."""
    kafka = request.param == "kafka"
    over = kafka_variables(request.getfixturevalue("broker")) if kafka else {}
    files = [TIERS / "gateway.yaml", *([TIERS / "gateway-kafka.yaml"] if kafka else []), SAMPLING]
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(running_sink(tmp_path / name / "sink")) for name in NAMES}
        gateways = {
            name: Collector(
                [BASE, *files],
                tmp_path / name,
                {
                    **sinks[name].backends,
                    **over,
                    "OTELCOL_INSTANCE": name,
                    "OTELCOL_SAMPLING_WAIT": "2s",
                    "OTELCOL_SAMPLING_PERCENTAGE": "0",
                },
            )
            for name in NAMES
        }
        resolver = ", ".join(f"'{gateway.grpc}'" for gateway in gateways.values())
        agent = Collector(
            [BASE, TIERS / ("agent-kafka.yaml" if kafka else "agent.yaml")],
            tmp_path / "agent",
            {
                **over,
                "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: [{resolver}]}}}}",
                "OTELCOL_GATEWAY": gateways[NAMES[0]].grpc,
            },
        )
        for collector in (agent, *gateways.values()) if kafka else (*gateways.values(), agent):
            stack.callback(collector.stop)
            collector.start()
            if kafka and collector is agent:
                emit(agent.http, "makes the topics", [secrets.token_hex(16)], {})

        def both_work() -> bool:
            """Return whether both gateways have received spans."""
            emit(agent.http, "warms up", [secrets.token_hex(16) for _ in range(8)], {})
            return all(gateway.metric("otelcol_receiver_accepted_spans") for gateway in gateways.values())

        wait_until(both_work, description="work for both gateways")
        yield Tiers(agent, gateways, sinks)


def test_sampling_considers_all_spans_of_a_trace(tiers: Tiers) -> None:
    """Two services send spans of the same traces. If one span failed, one gateway keeps both."""
    failed, fine = ([secrets.token_hex(16) for _ in range(TRACES)] for _ in range(2))
    emit(tiers.agent.http, "caller", [*failed, *fine], {"http.response.status_code": 200})
    emit(tiers.agent.http, "model", failed, {"http.response.status_code": 503})
    emit(tiers.agent.http, "model", fine, {"http.response.status_code": 200})
    expected = {(trace_id, service) for trace_id in failed for service in ("caller", "model")}

    wait_until(lambda: set().union(*tiers.arrived().values()) >= expected, description="both spans of failed traces")
    time.sleep(3)

    first, second = tiers.arrived().values()
    assert first | second == expected
    assert {trace_id for trace_id, _ in first}.isdisjoint(trace_id for trace_id, _ in second)
    assert min(len(first), len(second)) > TRACES / 2  # both gateways have received spans


def test_each_gateway_has_its_own_series(tiers: Tiers) -> None:
    """Span metrics of the gateways are separate series that add up to all spans."""
    trace_ids = [secrets.token_hex(16) for _ in range(TRACES)]
    emit(tiers.agent.http, "counted", trace_ids, {})

    def counts() -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, sink in tiers.sinks.items():
            for metric in sink.items("metrics"):
                if metric["name"] == "traces.span.metrics.calls" and metric["resource"]["service.name"] == "counted":
                    for point in metric["sum"]["dataPoints"]:
                        assert attributes(point)["collector.instance.id"] == name
                        counts[name] = int(point["asInt"])
        return counts

    wait_until(lambda: sum(counts().values()) == TRACES, description="counts of all spans")
    assert counts().keys() == set(NAMES)


def test_an_unavailable_gateway_loses_no_span(tmp_path: Path) -> None:
    """Its spans wait on the disk of the agent, even during a restart of the agent."""
    trace_ids = [secrets.token_hex(16) for _ in range(TRACES)]
    with ExitStack() as stack:
        sink = stack.enter_context(running_sink(tmp_path / "sink"))
        gateway = Collector(
            [BASE, TIERS / "gateway.yaml"], tmp_path / "gateway", {**sink.backends, "OTELCOL_INSTANCE": "a"}
        )
        environment = {
            "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: ['{gateway.grpc}']}}}}",
            "OTELCOL_GATEWAY": gateway.grpc,
        }
        with running_collector(BASE, TIERS / "agent.yaml", data=tmp_path / "agent", **environment) as agent:
            emit(agent.http, "sent", trace_ids, {})
        stack.callback(gateway.stop)
        gateway.start()
        with running_collector(BASE, TIERS / "agent.yaml", data=tmp_path / "agent", **environment):
            wait_until(lambda: len(sink.items("traces")) >= TRACES, description="all spans")

        assert {span["traceId"] for span in sink.items("traces")} == set(trace_ids)


def kafka_agent(broker: Server, variables: dict[str, str], folder: Path) -> Collector:
    """Return an agent that writes to Kafka."""
    assert variables["KAFKA_BROKERS"] == broker.address
    return Collector([BASE, TIERS / "agent-kafka.yaml"], folder / "agent", variables)


def kafka_gateway(name: str, variables: dict[str, str], folder: Path) -> Collector:
    """Return a gateway whose number may change by itself: it has no queue."""
    files = [BASE, TIERS / "gateway.yaml", TIERS / "gateway-kafka.yaml", TIERS / "gateway-kafka-elastic.yaml"]
    return Collector(files, folder / name, {**variables, "OTELCOL_INSTANCE": name})


@pytest.mark.many
@pytest.mark.xdist_group("kafka")
def test_an_elastic_gateway_that_is_killed_and_removed_leaves_nothing_behind(broker: Server, tmp_path: Path) -> None:
    """While the backend is unavailable, messages stay in Kafka. Another gateway reads all of them, from the start."""
    trace_ids = [secrets.token_hex(16) for _ in range(TRACES)]
    variables = kafka_variables(broker)
    with ExitStack() as stack:
        sink = stack.enter_context(running_sink(tmp_path / "sink"))
        agent = kafka_agent(broker, variables, tmp_path)
        first, second = (kafka_gateway(name, variables | sink.backends, tmp_path) for name in ("first", "second"))
        for collector in (agent, first, second):
            stack.callback(collector.stop)
        sink.collector.stop()
        agent.start()
        emit(agent.http, "sent", trace_ids, {})
        first.start()
        failure = re.compile(r"Exporting failed.*otlp_grpc/jaeger")
        wait_until(lambda: failure.search(first.log), description="a failed delivery of spans")
        first.stop(signum=signal.SIGKILL)
        second.start()
        sink.collector.start()

        wait_until(lambda: len(sink.items("traces")) >= TRACES, description="all spans")

        assert {span["traceId"] for span in sink.items("traces")} == set(trace_ids)


@pytest.mark.many
@pytest.mark.xdist_group("kafka")
def test_an_unavailable_broker_loses_no_span(broker: Server, tmp_path: Path) -> None:
    """Spans wait on the disk of the agent while the broker is down, even if the agent is killed."""
    trace_ids = [secrets.token_hex(16) for _ in range(TRACES)]
    variables = kafka_variables(broker)
    with ExitStack() as stack:
        sink = stack.enter_context(running_sink(tmp_path / "sink"))
        agent = kafka_agent(broker, variables, tmp_path)
        gateway = kafka_gateway("gateway", variables | sink.backends, tmp_path)
        for collector in (agent, gateway):
            stack.callback(collector.stop)
        agent.start()
        emit(agent.http, "before", [secrets.token_hex(16)], {})
        gateway.start()
        wait_until(lambda: sink.items("traces"), description="the first span")
        broker.kill()
        stack.callback(broker.ensure_started)  # for the other tests
        emit(agent.http, "during", trace_ids, {})
        agent.stop(signum=signal.SIGKILL)
        broker.start()
        agent.start()

        def arrived() -> list[str]:
            """Return the trace IDs of the spans that were sent without a broker."""
            return [s["traceId"] for s in sink.items("traces") if s["resource"]["service.name"] == "during"]

        wait_until(lambda: len(arrived()) >= TRACES, description="all spans")

        assert set(arrived()) == set(trace_ids)


def test_both_prometheus_get_all_metrics_although_one_was_unavailable(tmp_path: Path) -> None:
    """The gateway has a queue for each of them."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_sink(tmp_path / name)) for name in ("first", "second"))
        second.collector.stop()
        environment = {
            **first.backends,
            "PROMETHEUS_REPLICA_OTLP_ENDPOINT": second.collector.http,
            "OTELCOL_INSTANCE": "gateway-0",
        }
        files = (BASE, TIERS / "gateway.yaml", OTEL / "prometheus-replica.yaml")
        gateway = stack.enter_context(running_collector(*files, data=tmp_path / "gateway", **environment))
        emit(gateway.http, "counted", [secrets.token_hex(16) for _ in range(TRACES)], {})

        def calls(sink: Sink) -> set[int]:
            """Return the values of the number of spans that arrived in a sink."""
            metrics = [m for m in sink.items("metrics") if m["name"] == "traces.span.metrics.calls"]
            return {int(p["asInt"]) for m in metrics for p in m["sum"]["dataPoints"]}

        wait_until(lambda: TRACES in calls(first), description="the metrics in the first Prometheus")
        second.collector.start()

        wait_until(lambda: TRACES in calls(second), description="the metrics in the second Prometheus")


def test_the_agent_redacts_secrets(tmp_path: Path) -> None:
    """No secret reaches a gateway, and the agent adds the host name to each span."""
    with ExitStack() as stack:
        gateway = stack.enter_context(running_sink(tmp_path / "gateway"))
        environment = {
            "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: ['{gateway.collector.grpc}']}}}}",
            "OTELCOL_GATEWAY": gateway.collector.grpc,
        }
        agent = stack.enter_context(
            running_collector(BASE, TIERS / "agent.yaml", data=tmp_path / "agent", **environment)
        )
        emit(agent.http, "sent", [secrets.token_hex(16)], {"password": "hidden", "kept": "seen"})

        (span,) = wait_until(lambda: gateway.items("traces"), description="the span")
        wait_until(lambda: gateway.items("metrics"), description="the host's metrics")

    assert "hidden" not in gateway.text("traces")
    assert span["attributes"]["kept"] == "seen"
    assert span["resource"]["host.name"]
