"""Values of the Helm chart: invalid ones are refused in one line, and docs/kubernetes.md describes all of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.helm import CHART, ROOT, template

pytestmark = pytest.mark.slow

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
MINIMAL = CHART / "examples" / "minimal.yaml"


def refusal(*values: Path, options: tuple[str, ...] = ()) -> str:
    """Return the line that says why the values are refused, without what Helm prints around it."""
    done = template(*values, options=options)
    assert done.returncode != 0
    around = ("Error: values don't meet", "modeltrace:", "Use --debug")
    (line,) = [line for line in done.stderr.splitlines() if line and not line.startswith(around)]
    return line


REFUSED = {
    "service.replicas=3": "at '/service/store/type': value must be 'postgresql'",
    "service.autoscaling.type=cpu": "at '/service/store/type': value must be 'postgresql'",
    "service.replicas=two": "at '/service/replicas': got string, want integer",
    "service.replica=2": "at '/service': additional properties 'replica' not allowed",
    "service.store.type=mysql": "at '/service/store/type': value must be one of 'sqlite', 'postgresql', 'none'",
    "service.store.type=postgresql": "service.store.existingSecret is empty: name a Secret with the URL of PostgreSQL",
    "service.store.type=postgresql,service.store.existingSecret=s,service.replicas=2": "service.idKey.existingSecret",
    "service.apiKey.existingSecret=": "service.apiKey.existingSecret is empty: name a Secret with the API key, or set",
    "service.env.MODELTRACE_PORT=9000": "service.env contains MODELTRACE_PORT, which other values below `service` set",
    "service.env.MODELTRACE_TLS_CERTIFICATE=/c.pem": "service.env contains MODELTRACE_TLS_CERTIFICATE, which other",
    "service.env.MODELTRACE_TLS_CLIENT_CA=/c.pem": "but the probes of the pods have no client certificate: verify",
    "service.tls.existingSecret=My_Secret": "at '/service/tls/existingSecret': 'My_Secret' does not match pattern",
    "service.bundle.source=models:/churn@champion": "set MLFLOW_TRACKING_URI in service.env",
    "service.bundle.sha256=abc": "at '/service/bundle/sha256': 'abc' does not match pattern",
    "service.otlp.endpoint=collector:4318": "at '/service/otlp/endpoint': 'collector:4318' does not match pattern",
    "backends.jaeger=http://jaeger:4317": "at '/backends/jaeger': 'http://jaeger:4317' does not match pattern",
    "backends.prometheus=": "backends.prometheus is empty: set its address, or list a file vendors/… in",
    "backends.loki=": "backends.loki is empty: set its address, or list log-file.yaml, opensearch.yaml or a file",
    "agent.enabled=false,gateway.enabled=false": "service.otlp.endpoint is empty: set the receiver of telemetry",
    "gateway.enabled=false": "agent.enabled=true needs gateways: set gateway.enabled=true, or agent.enabled=false",
    "gateway.configs={sampling.yaml},agent.enabled=false": "needs agent.enabled=true if gateway.replicas is greater",
    "gateway.configs={honeycomb.yaml}": "at '/gateway/configs/0': value must be one of 'sampling.yaml'",
    "agent.resources.limits.memory=512M": "at '/agent/resources/limits/memory': '512M' does not match pattern",
    "gateway.resources.limits.memory=null": "at '/gateway/resources/limits': missing property 'memory'",
    "gateway.configs={prometheus-replica.yaml}": "backends.prometheusReplica and prometheus-replica.yaml in",
    "backends.prometheusReplica=http://p": "belong together: set both or none",
    "gateway.configs={opensearch.yaml}": "backends.openSearch.url is empty: opensearch.yaml in gateway.configs",
    "gateway.configs={opensearch.yaml},backends.openSearch.url=http://o": "backends.openSearch.existingSecret is",
    "jaeger.enabled=true": "jaeger.openSearch.urls is empty: list the addresses of OpenSearch",
    "jaeger.enabled=true,jaeger.openSearch.urls={http://o}": "jaeger.query.prometheusUrl is empty: set the address",
    "jaeger.openSearch.urls={o:9200}": "at '/jaeger/openSearch/urls/0': 'o:9200' does not match pattern",
    "jaeger.indices.rolloverSchedule=hourly": "at '/jaeger/indices/rolloverSchedule': 'hourly' does not match pattern",
    "kafka.enabled=true": "kafka.brokers is empty: list the addresses host:port of the Kafka brokers",
    "kafka.enabled=true,kafka.brokers={k:9092},agent.enabled=false": "kafka.enabled=true needs agent.enabled=true",
    "kafka.autoscaling.enabled=true": "kafka.autoscaling.enabled=true needs kafka.enabled=true",
    "kafka.enabled=true,kafka.brokers={k:9092},kafka.autoscaling.enabled=true,gateway.configs={vendors/otlp.yaml}": (
        "kafka.autoscaling.enabled=true cannot be combined with vendors/otlp.yaml in gateway.configs"
    ),
    "kafka.enabled=true,kafka.brokers={k:9092},kafka.autoscaling.enabled=true,gateway.configs={opensearch.yaml}": (
        "kafka.autoscaling.enabled=true cannot be combined with opensearch.yaml in gateway.configs"
    ),
    "service.evaluation.schedule=10 3 * * *": "service.evaluation.schedule needs service.store.type=postgresql",
    "service.evaluation.schedule=hourly": "at '/service/evaluation/schedule': 'hourly' does not match pattern",
    "service.evaluation.since=1 week": "at '/service/evaluation/since': '1 week' does not match pattern",
    "doctor.backend=stack": "doctor.jaeger is empty: set the address of its HTTP API, or doctor.backend=none",
    "doctor.backend=hub": "doctor.hub is empty: set the address of the hub, or doctor.backend=none",
    "doctor.backend=hub,doctor.hub=http://h,service.enabled=false": "doctor.backend needs service.enabled=true",
    "monitoring.prometheusRule.files={all}": "at '/monitoring/prometheusRule/files/0': value must be one of 'data'",
}


@pytest.mark.parametrize(("option", "message"), REFUSED.items())
def test_invalid_values_are_refused_in_one_line(option: str, message: str) -> None:
    """The line names the value and says what to do."""
    assert message in refusal(MINIMAL, options=(f"--set={option}",))


def test_keda_needs_the_address_of_prometheus() -> None:
    """The trigger cannot be evaluated without it."""
    line = refusal(CHART / "examples" / "keda.yaml", options=("--set=service.autoscaling.keda.prometheusUrl=",))

    assert "service.autoscaling.keda.prometheusUrl is empty: set the address of the Prometheus" in line


def test_the_chart_without_values_says_what_to_set_first() -> None:
    """Nothing is installed with a service that anybody can call."""
    assert "service.apiKey.existingSecret is empty" in refusal()


def leaves(schema: Mapping[str, Any], default: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yield each value with a description: path, schema, default."""
    for name, inner in schema.get("properties", {}).items():
        if not path and name == "global":
            continue
        here = f"{path}.{name}".lstrip(".")
        if inner.get("properties") and name != "conditions":  # a value as a whole
            yield from leaves(inner, default[name], here)
        else:
            yield here, inner, default[name]


LEAVES = list(leaves(SCHEMA, VALUES))


def row(path: str, schema: Mapping[str, Any], default: Any) -> str:
    """Return the row of docs/kubernetes.md that describes a value."""
    shown = json.dumps(default, ensure_ascii=False) if default not in ("", None, [], {}) else ""
    return f"| `{path}` | {f'`{shown}`' if shown else ''} | {schema['description']} |"


def test_every_value_is_documented() -> None:
    """docs/kubernetes.md has a row for each value, with its default and the description of the schema, and no other."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    _, _, table = text.partition("| value | default | meaning |\n|---|---|---|\n")

    assert table.split("\n\n")[0].splitlines() == [row(*leaf) for leaf in LEAVES]


def test_the_schema_knows_exactly_the_values() -> None:
    """values.yaml and values.schema.json have the same names."""

    def names(values: Any, path: str = "") -> Iterator[str]:
        known = {leaf for leaf, _, _ in LEAVES}
        if isinstance(values, dict) and path not in known:
            for name, inner in values.items():
                yield from names(inner, f"{path}.{name}".lstrip("."))
        else:
            yield path

    assert sorted(names(VALUES)) == sorted(path for path, _, _ in LEAVES)


def test_the_schema_lists_the_files_that_can_be_merged() -> None:
    """`gateway.configs` accepts every file below otel/ except those that the chart merges, or that need other files."""
    otel = ROOT / "otel"
    own = {"collector.yaml", "kubernetes.yaml", "filelog.yaml"}
    files = {str(path.relative_to(otel)) for path in otel.rglob("*.yaml")}
    merged = {name for name in files - own if not name.startswith("tiers/")}

    assert set(SCHEMA["properties"]["gateway"]["properties"]["configs"]["items"]["enum"]) == merged


def test_the_schema_lists_the_files_with_rules() -> None:
    """`monitoring.prometheusRule.files` accepts every file of deploy/prometheus/rules."""
    rules = SCHEMA["properties"]["monitoring"]["properties"]["prometheusRule"]["properties"]["files"]["items"]["enum"]

    assert sorted(rules) == sorted(path.stem for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
