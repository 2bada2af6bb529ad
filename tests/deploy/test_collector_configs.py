"""The real Collector validates every combination of the configuration files."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry._logs import LogRecord
from opentelemetry.context import get_current
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AnyValue, AttributeValue

from tests.helpers.collector import BASE, OTEL, Collector, Sink, attributes, running_collector, running_sink, validate
from tests.helpers.processes import free_port, wait_until

pytestmark = pytest.mark.stack

VENDORS = sorted((OTEL / "vendors").glob("*.yaml"))
AND_LOCAL = OTEL / "vendors" / "and-local.yaml"
SAMPLING, FILELOG = OTEL / "sampling.yaml", OTEL / "filelog.yaml"
LOG_FILE, OPENSEARCH = OTEL / "log-file.yaml", OTEL / "opensearch.yaml"
REPLICA = OTEL / "prometheus-replica.yaml"
FLUENT = OTEL.parent / "deploy" / "fluent-bit" / "collector.yaml"
AGENT, GATEWAY = OTEL / "tiers" / "agent.yaml", OTEL / "tiers" / "gateway.yaml"
AGENT_KAFKA, GATEWAY_KAFKA = OTEL / "tiers" / "agent-kafka.yaml", OTEL / "tiers" / "gateway-kafka.yaml"
GATEWAY_ELASTIC = OTEL / "tiers" / "gateway-kafka-elastic.yaml"
KUBERNETES = OTEL / "kubernetes.yaml"
DOCUMENT = OTEL.parent / "docs" / "collector.md"

# Components that this build does not contain, by the file that needs them. The contrib image contains them.
NOT_BUILT = {"gcp.yaml": "googleclientauth", "opensearch.yaml": "opensearch"}

DUMMIES = {
    "VENDOR_OTLP_ENDPOINT": "https://otlp.example.com",
    "VENDOR_OTLP_KEY": "key",
    "GRAFANA_CLOUD_OTLP_ENDPOINT": "https://otlp.example.com/otlp",
    "GRAFANA_CLOUD_INSTANCE_ID": "1",
    "GRAFANA_CLOUD_API_KEY": "key",
    "HONEYCOMB_API_KEY": "key",
    "NEW_RELIC_LICENSE_KEY": "key",
    "DT_OTLP_ENDPOINT": "https://otlp.example.com/api/v2/otlp",
    "DT_API_TOKEN": "key",
    "DD_API_KEY": "key",
    "ELASTIC_OTLP_ENDPOINT": "https://otlp.example.com:443",
    "ELASTIC_API_KEY": "key",
    "AZURE_TRACES_ENDPOINT": "https://otlp.example.com/v1/traces",
    "AZURE_METRICS_ENDPOINT": "https://otlp.example.com/v1/metrics",
    "AZURE_LOGS_ENDPOINT": "https://otlp.example.com/v1/logs",
    "AZURE_TENANT_ID": "tenant",
    "AZURE_CLIENT_ID": "client",
    "AZURE_CLIENT_SECRET": "key",
    "AWS_REGION": "eu-west-1",
    "AWS_LOG_GROUP": "group",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "GOOGLE_CLOUD_PROJECT": "project",
    "MLFLOW_TRACKING_URI": "http://mlflow.example.com:5000",
    "OTELCOL_GATEWAY_RESOLVER": "{static: {hostnames: [a.example.com:4317, b.example.com:4317]}}",
    "OTELCOL_GATEWAY": "dns:///gateway.example.com:4317",
    "OTELCOL_INSTANCE": "gateway-0",
    "KUBE_NODE_NAME": "node-1",
    "KAFKA_BROKERS": "a.example.com:9092,b.example.com:9092",
    "PROMETHEUS_REPLICA_OTLP_ENDPOINT": "http://prometheus.example.com:9090/api/v1/otlp",
    "OPENSEARCH_ENDPOINT": "https://opensearch.example.com:9200",
    "OPENSEARCH_USERNAME": "user",
    "OPENSEARCH_PASSWORD": "key",
}

COMBINATIONS: list[tuple[Path, ...]] = [
    (),
    (SAMPLING,),
    (FILELOG,),
    (SAMPLING, FILELOG),
    (LOG_FILE,),
    (LOG_FILE, SAMPLING, FILELOG),
    (OPENSEARCH,),
    (GATEWAY, SAMPLING, OPENSEARCH),
    (REPLICA,),
    (GATEWAY, SAMPLING, REPLICA),
    (GATEWAY, GATEWAY_KAFKA, REPLICA),
    (FLUENT,),
    (SAMPLING, FLUENT),
    *((vendor,) for vendor in VENDORS),
    *((SAMPLING, vendor) for vendor in VENDORS),
    *((SAMPLING, FILELOG, vendor, AND_LOCAL) for vendor in VENDORS if vendor != AND_LOCAL),
    (AGENT,),
    (AGENT, FILELOG),
    (AGENT, KUBERNETES),
    (GATEWAY,),
    (GATEWAY, SAMPLING),
    *((GATEWAY, SAMPLING, vendor) for vendor in VENDORS),
    (AGENT_KAFKA,),
    (AGENT_KAFKA, FILELOG),
    (AGENT_KAFKA, KUBERNETES),
    (GATEWAY, GATEWAY_KAFKA),
    (GATEWAY, GATEWAY_KAFKA, SAMPLING),
    (GATEWAY, GATEWAY_KAFKA, GATEWAY_ELASTIC, SAMPLING),
    *((GATEWAY, GATEWAY_KAFKA, SAMPLING, vendor) for vendor in VENDORS),
]


def title(configs: tuple[Path, ...]) -> str:
    """Return the name of a combination: the names of its files."""
    return "+".join(["collector", *("fluent-bit" if path == FLUENT else path.stem for path in configs)])


def missing_component(configs: tuple[Path, ...]) -> str | None:
    """Return the component that a combination needs and this Collector does not have."""
    return next((NOT_BUILT[path.name] for path in configs if path.name in NOT_BUILT), None)


def required(*configs: Path) -> set[str]:
    """Return the variables without a default in the files."""
    return set(re.findall(r"\$\{env:(\w+)\}", "".join(path.read_text() for path in configs)))


@pytest.mark.parametrize("configs", COMBINATIONS, ids=title)
def test_the_collector_accepts_every_combination(configs: tuple[Path, ...]) -> None:
    """`otelcol validate` accepts it in any order, or names the one component that this build does not contain."""
    missing = missing_component(configs)
    for ordered in {configs, configs[::-1]} if GATEWAY_KAFKA not in configs else {configs}:
        result = validate(BASE, *ordered, environment=DUMMIES)

        if missing is None:
            assert result.returncode == 0, result.stderr
        else:
            assert result.returncode == 1
            assert f'unknown type: "{missing}"' in result.stderr
            assert result.stderr.count("unknown type") == 1
    if missing:
        pytest.skip(f"Collector configurations as a whole that need {missing}: only the official image has it")


def test_all_but_the_missing_authenticator_is_valid(tmp_path: Path) -> None:
    """With an available authenticator instead of the missing one, gcp.yaml is valid."""
    text = (OTEL / "vendors" / "gcp.yaml").read_text()
    config = yaml.safe_load(text.replace(NOT_BUILT["gcp.yaml"], "bearertokenauth/stand-in"))
    config["extensions"]["bearertokenauth/stand-in"] = {"token": "key"}
    (tmp_path / "gcp.yaml").write_text(yaml.safe_dump(config))

    result = validate(BASE, tmp_path / "gcp.yaml", environment=DUMMIES)

    assert result.returncode == 0, result.stderr


def test_all_but_the_missing_exporter_is_valid(tmp_path: Path) -> None:
    """Queue, retries, address and authentication are those of every exporter, so another exporter accepts them."""
    config = yaml.safe_load(OPENSEARCH.read_text())
    exporter = config["exporters"].pop("opensearch")
    own = {name: exporter.pop(name) for name in ("logs_index", "logs_index_time_format")}
    config["exporters"]["otlp_http/stand-in"] = exporter.pop("http") | exporter
    config["service"]["pipelines"]["logs/out"]["exporters"] = ["otlp_http/stand-in"]
    (tmp_path / "opensearch.yaml").write_text(yaml.safe_dump(config))

    result = validate(BASE, tmp_path / "opensearch.yaml", environment=DUMMIES)

    assert result.returncode == 0, result.stderr
    assert own["logs_index"].endswith("modeltrace-logs}")


@pytest.mark.parametrize(
    ("configs", "variable"),
    [
        (configs, variable)
        for configs in [
            *((vendor,) for vendor in VENDORS),
            (AGENT,),
            (AGENT_KAFKA,),
            (GATEWAY, GATEWAY_KAFKA),
            (REPLICA,),
        ]
        if not missing_component(configs)
        for variable in sorted(required(*configs))
    ],
    ids=str,
)
def test_a_missing_variable_is_an_error(configs: tuple[Path, ...], variable: str) -> None:
    """A missing key or address is reported in one line before anything starts."""
    without = {k: v for k, v in DUMMIES.items() if k != variable}

    result = validate(BASE, *configs, environment=without)

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert re.search(r"must_be_set|no \S+ (token )?provided|must be specified|non-empty|no resolvers", result.stderr)


def test_an_agent_does_not_read_the_pods_of_all_nodes() -> None:
    """Without the name of its node it does not start: the processor itself reads this variable."""
    without = {k: v for k, v in DUMMIES.items() if k != "KUBE_NODE_NAME"}

    result = validate(BASE, AGENT, KUBERNETES, environment=without)

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'envvar "KUBE_NODE_NAME" is not set' in result.stderr


@pytest.mark.parametrize(
    ("variable", "file", "message"),
    [
        ("OTELCOL_SAMPLING_PERCENTAGE", SAMPLING, "sampling_percentage"),
        ("OTELCOL_SAMPLING_CONFIDENCE", SAMPLING, "low-confidence"),
        ("OTELCOL_SAMPLING_SLOW_MS", SAMPLING, "slow"),
        ("OTELCOL_SAMPLING_WAIT", SAMPLING, "decision_wait"),
        ("OTELCOL_GATEWAY_INSECURE", AGENT, "insecure"),
        ("OTELCOL_GATEWAY_RESOLVER", AGENT, "resolver"),
    ],
)
def test_an_invalid_value_is_an_error_at_startup(variable: str, file: Path, message: str, tmp_path: Path) -> None:
    """The error names the setting; the Collector does not start with a policy that never applies."""
    collector = Collector([BASE, file], tmp_path, {**DUMMIES, variable: "often"})
    with pytest.raises(AssertionError, match="exited with 1"):
        collector.start()

    _, error, why = collector.log.rpartition("Error: ")
    assert error
    assert message in why


@pytest.mark.parametrize("text", ["receivers: {otlp: {protocols: {grpc: {endpont: x}}}}", "receivers: ["])
def test_an_invalid_file_is_an_error_at_startup(text: str, tmp_path: Path) -> None:
    """The Collector reports the error in the file and does not start."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)

    result = validate(BASE, broken)

    assert result.returncode == 1
    assert re.search("endpont|yaml", result.stderr)


@pytest.mark.parametrize("path", sorted(OTEL.rglob("*.yaml")), ids=lambda path: str(path.relative_to(OTEL)))
def test_no_file_contains_a_host_name(path: Path) -> None:
    """Addresses come from the environment; fixed ones are loopback or public addresses of vendors."""
    public = r"(?:nr-data\.net|honeycomb\.io|googleapis\.com|amazonaws\.com|microsoftonline\.com|monitor\.azure\.com)"
    code = "\n".join(line.split(" #")[0] for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    code = re.sub(r"https://otlp\.\$\{env:DD_SITE:-datadoghq\.com\}", "", code)
    for address in re.findall(r"(?:https?://|endpoint: )[^\s,\"]+|\d+\.\d+\.\d+\.\d+", code):
        host = re.sub(r"^(https?://|endpoint: )", "", address)
        assert host.startswith(("127.0.0.1", "${env:")) or re.search(public, host), address


@pytest.mark.parametrize("path", sorted(OTEL.rglob("*.yaml")), ids=lambda path: str(path.relative_to(OTEL)))
def test_every_file_and_variable_is_documented(path: Path) -> None:
    """docs/collector.md has a line for each file, with each variable that it reads."""
    document = DOCUMENT.read_text()
    assert f"otel/{path.relative_to(OTEL)}" in document
    for variable in re.findall(r"\$\{env:(\w+)", path.read_text()):
        assert f"`{variable}`" in document, variable


def test_no_file_contains_a_secret() -> None:
    """Keys, tokens and passwords come only from the environment."""
    for path in OTEL.rglob("*.yaml"):
        for name, value in re.findall(r"\b(token|password|client_secret|api[-_]key): *([^\s,}]+)", path.read_text()):
            assert value.strip("\"'").startswith("${env:"), f"{path.name}: {name}"


# ── Running Collectors ──


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """Run a receiver in place of the backends."""
    with running_sink(tmp_path_factory.mktemp("sink")) as sink:
        yield sink


@pytest.mark.parametrize(
    "configs",
    [
        c
        for c in COMBINATIONS
        if not missing_component(c) and not {GATEWAY_KAFKA, AGENT_KAFKA, KUBERNETES} & set(c) and len(c) < 3
    ],
    ids=title,
)
def test_no_deprecated_setting_is_used(configs: tuple[Path, ...], sink: Sink, tmp_path: Path) -> None:
    """The log of a Collector with the combination contains no deprecation warning."""
    environment = {
        **DUMMIES,
        **sink.backends,
        "MODELTRACE_LOG_FILE": str(tmp_path / "service.log"),
        "OTELCOL_FORWARD_PORT": str(free_port()),
        "OTELCOL_GATEWAY_RESOLVER": f"{{static: {{hostnames: ['{sink.collector.grpc}']}}}}",
    }
    with running_collector(BASE, *configs, data=tmp_path, **environment) as collector:
        log = collector.log

    assert "Everything is ready" in log
    assert not [line for line in log.splitlines() if "deprecat" in line.lower()]


# Invented secrets and their locations. Each has a pattern that the redaction rules match.
BEARER = "Bearer abcDEF123456.ghi-jkl"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLW9mLW5vYm9keQ"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END RSA PRIVATE KEY-----"
PLANTED: dict[str, AttributeValue] = {
    "authorization": "hidden-0",
    "http.request.header.authorization": "hidden-1",
    "api_key": "hidden-2",
    "x-api-key": "hidden-3",
    "password": "hidden-4",
    "db.password": "hidden-5",
    "client_secret": "hidden-6",
    "note.bearer": f"sent with {BEARER}",
    "note.jwt": f"got {JWT} back",
    "note.key": PRIVATE_KEY,
}
SECRETS = [*(f"hidden-{n}" for n in range(7)), "abcDEF123456", "eyJhbGciOiJIUzI1NiJ9", "MIIBOgIBAAJBAK"]
KEPT: dict[str, Any] = {
    "ml.prediction.id": "1.eyJhbGciOiJub25lIn0.c2ln",
    "ml.prediction.label": "benign",
    "ml.prediction.confidence": 0.875,
    "http.route": "/predict",
}
INPUTS: dict[str, AnyValue] = {"mean_radius": 17.99, "plan": "basic", "bearer": "no", "visits": 3, "vip": True}
SPOILT: list[dict[str, AnyValue]] = [{"plan": BEARER}, {"password": "hidden-4"}, {"plan": [JWT, {"note": PRIVATE_KEY}]}]


@pytest.fixture(scope="module")
def redacted(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Sink:
    """Send a span, a metric and a log record with secrets in every field. Return what the backends receive."""
    resource = Resource({"service.name": "planted", **PLANTED})
    data = tmp_path_factory.mktemp("redaction")
    with running_collector(BASE, data=data, **sink.backends) as collector:
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.http}/v1/traces")))
        with tracers.get_tracer("planted").start_as_current_span("planted") as span:
            span.set_attributes({**PLANTED, **KEPT})
            span.add_event("planted", PLANTED)
            span.record_exception(ValueError(f"refused {BEARER}"))
            span.set_status(StatusCode.ERROR, f"ValueError: refused {BEARER} and {JWT} for {PRIVATE_KEY}")

            reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.http}/v1/metrics"))
            meters = MeterProvider([reader], resource=resource)
            meters.get_meter("planted").create_counter("planted").add(1, {**PLANTED, **KEPT})
            meters.shutdown()

            loggers = LoggerProvider(resource=resource)
            loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{collector.http}/v1/logs")))
            bodies: list[AnyValue] = [
                f"called with {BEARER}",
                {"authorization": "hidden-0", "text": f"and {JWT}"},
                '{"password": "hidden-4", "a": 1}',
                PRIVATE_KEY,
            ]
            for body, inputs in zip(bodies, (INPUTS, *SPOILT), strict=True):
                record = LogRecord(
                    timestamp=time.time_ns(),
                    body=body,
                    event_name="ml.prediction",
                    context=get_current(),
                    attributes={**PLANTED, **KEPT, "ml.prediction.inputs": inputs},
                )
                loggers.get_logger("planted").emit(record)
            loggers.shutdown()
        tracers.shutdown()
        for signal, number in (("traces", 1), ("logs", 4)):
            wait_until(
                lambda signal=signal, number=number: len(planted(sink, signal)) >= number,  # type: ignore[misc]
                seconds=30,
                description=signal,
            )
        wait_until(lambda: planted(sink, "metrics"), description="metrics")
    return sink


def planted(sink: Sink, signal: str) -> list[dict[str, Any]]:
    """Return the planted values that arrived."""
    return [item for item in sink.items(signal) if item["scope"] == "planted"]


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_no_secret_passes_the_collector(redacted: Sink, signal: str) -> None:
    """Secrets are removed by attribute name and by pattern, in resource, attributes, events, bodies and maps."""
    assert planted(redacted, signal)

    assert [secret for secret in SECRETS if secret in redacted.text(signal)] == []


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_identifiers_of_a_prediction_are_not_redacted(redacted: Sink, signal: str) -> None:
    """Prediction ID, label, confidence, route and trace ID arrive unchanged."""
    for item in planted(redacted, signal):
        assert {name: item["attributes"].get(name) for name in KEPT} == KEPT
        assert re.fullmatch("[0-9a-f]{32}", item["traceId"])


def test_feature_values_of_a_prediction_are_not_redacted(redacted: Sink) -> None:
    """The map of feature values keeps its names, values and types, except for secrets."""
    records = planted(redacted, "logs")

    assert {record["eventName"] for record in records} == {"ml.prediction"}
    assert [r["attributes"]["ml.prediction.inputs"] for r in records if "called" in str(r["body"])] == [INPUTS]


def test_points_of_a_metric_keep_their_series(redacted: Sink) -> None:
    """Attributes of metric points that are not secrets arrive unchanged."""
    (metric,) = planted(redacted, "metrics")
    (point,) = metric["sum"]["dataPoints"]

    assert {name: attributes(point).get(name) for name in KEPT} == KEPT
