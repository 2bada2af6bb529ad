"""Agents and gateways of the Collector under measurement, from the files of otel/tiers."""

import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import cpu_seconds, free_port, run_process
from bench.receiver import collector_path

OTEL = Path(__file__).parents[1] / "otel"
TIERS = OTEL / "tiers"


@dataclass
class TierCollector:
    """A Collector that can be stopped, killed and started again with the same data and ports."""

    name: str
    configs: Sequence[Path]
    folder: Path
    environment: Mapping[str, str]
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("GRPC", "HTTP", "HEALTH", "METRICS")}
    )
    cpu_of_earlier_runs: float = 0.0
    _stack: ExitStack = field(default_factory=ExitStack)
    _process: psutil.Process | None = None

    @property
    def http(self) -> str:
        """The URL of OTLP over HTTP."""
        return f"http://127.0.0.1:{self.ports['HTTP']}"

    @property
    def grpc(self) -> str:
        """The address of OTLP over gRPC, ``HOST:PORT``."""
        return f"127.0.0.1:{self.ports['GRPC']}"

    def start(self) -> None:
        """Start it, and return when it is healthy."""
        environment = {
            **self.environment,
            "OTELCOL_DATA": str(self.folder / self.name),
            "OTELCOL_INSTANCE": self.name,
            **{f"OTELCOL_{name}_PORT": str(port) for name, port in self.ports.items()},
        }
        command = [str(collector_path()), *(f"--config={path}" for path in self.configs)]
        popen = self._stack.enter_context(
            run_process(command, ready_url=f"http://127.0.0.1:{self.ports['HEALTH']}/", env=environment)
        )
        self._process = psutil.Process(popen.pid)

    def stop(self, *, kill: bool = False) -> None:
        """Stop it with TERM, so that it sends what it has in memory, or with KILL."""
        self.cpu_of_earlier_runs = self.cpu_seconds()
        if kill and self._process is not None:
            self._process.kill()
        self._process = None
        self._stack.close()

    def cpu_seconds(self) -> float:
        """Return the CPU time of all runs, in seconds."""
        return self.cpu_of_earlier_runs + (cpu_seconds([self._process]) if self._process else 0.0)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of one of its own metrics over the series with these labels; 0 without such a series."""
        if self._process is None:
            return 0.0
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['METRICS']}/metrics", timeout=10) as response:
                families = text_string_to_metric_families(response.read().decode())
        except OSError:
            return 0.0
        samples = (s for family in families for s in family.samples if s.name == name)
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


@dataclass
class Tiers:
    """Agents, the gateways behind them, and optionally Kafka between them."""

    agents: list[TierCollector]
    gateways: list[TierCollector]

    def start(self) -> None:
        """Start all Collectors. With Kafka, the agents create the topics."""
        for collector in (*self.gateways, *self.agents):
            collector.start()

    def stop(self) -> None:
        """Stop all Collectors, the agents first."""
        for collector in (*self.agents, *self.gateways):
            collector.stop()

    def queue_size(self) -> float:
        """Return the number of spans in the queues of the agents. Their own metrics are queued every 15 s."""
        return sum(agent.metric("otelcol_exporter_queue_size", data_type="traces") for agent in self.agents)

    def lag(self) -> float:
        """Return the number of messages in Kafka that the gateways have not read."""
        return sum(gateway.metric("otelcol_kafka_receiver_offset_lag") for gateway in self.gateways)


def build_tiers(
    folder: Path, traces: Sequence[str], others: str, *, sampling: bool, wait_seconds: float, brokers: str = ""
) -> Tiers:
    """Describe two agents and a gateway for each backend of `traces`.

    Args:
        folder: the folder of all queues.
        traces: the backend of each gateway, ``HOST:PORT`` of OTLP over gRPC.
        others: the URL of the receiver of metrics and log records.
        sampling: whether the gateways sample; they keep only traces with an error.
        wait_seconds: the time from the first span of a trace to the decision.
        brokers: address of Kafka; empty: agents send to gateways.
    """
    kafka = {"KAFKA_BROKERS": brokers} if brokers else {}
    common = {"PROMETHEUS_OTLP_ENDPOINT": others, "LOKI_OTLP_ENDPOINT": others, **kafka}
    files = [OTEL / "collector.yaml", TIERS / "gateway.yaml"]
    files += [TIERS / "gateway-kafka.yaml"] if brokers else []
    files += [OTEL / "sampling.yaml"] if sampling else []
    rate = {"OTELCOL_SAMPLING_WAIT": f"{wait_seconds:g}s", "OTELCOL_SAMPLING_PERCENTAGE": "0"}
    rate |= {"OTELCOL_SAMPLING_SLOW_MS": "60000"}
    gateways = [
        TierCollector(f"gateway-{number}", files, folder, {**common, **rate, "JAEGER_OTLP_ENDPOINT": backend})
        for number, backend in enumerate(traces)
    ]
    addresses = ", ".join(f"'{gateway.grpc}'" for gateway in gateways)
    environment = {
        **common,
        "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: [{addresses}]}}}}",
        "OTELCOL_GATEWAY": gateways[0].grpc,
    }
    tier = TIERS / ("agent-kafka.yaml" if brokers else "agent.yaml")
    agents = [TierCollector(f"agent-{n}", [OTEL / "collector.yaml", tier], folder, environment) for n in range(2)]
    return Tiers(agents, gateways)
