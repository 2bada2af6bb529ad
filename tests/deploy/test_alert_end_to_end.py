"""Alerts from a misbehaving request to the notification, and from its link back to the trace.

Rules, windows and `for:` are those of the deployment. Only the evaluation interval and the grouping delay are shorter.
"""

import gzip
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest

from modeltrace.bundles.example import build_example
from stack.run import Stack
from tests.helpers.processes import running, wait_until
from tests.helpers.receivers import NotificationReceivers, Response, notification_receivers, otlp_http
from tests.helpers.services import running_service
from tests.helpers.stack import LOKI_ELSEWHERE, has_loki, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

RUNBOOKS = "https://docs.example.org/runbooks"
# Metrics that this service does not have: of regressors with intervals, of named outputs, and of estimates without
# labels, which are off by default. The tests of dashboards compare the names with the instruments.
OTHER_MODELS = ("ml_evaluation_interval_", "ml_evaluation_expected_", "ml_output_")


@dataclass(frozen=True)
class Watched:
    """A stack whose alerts are sent to local inboxes."""

    stack: Stack
    inboxes: NotificationReceivers

    def url(self, component: str, port: str) -> str:
        """Return the URL of a component."""
        return f"http://{self.stack.layout.address(component, port)}"

    def query(self, path: str, **params: str) -> Any:
        """Query Prometheus."""
        url = f"{self.url('prometheus', 'http')}/api/v1/{path}"
        return httpx.get(url, params=params, timeout=30).raise_for_status().json()["data"]

    def posted(self, name: str) -> dict[str, Any] | None:
        """Return the first firing alert of a name that the webhook received."""
        alerts = [alert for post in self.inboxes.posts for alert in post.body["alerts"]]
        matching = [a for a in alerts if a["labels"]["alertname"] == name and a["status"] == "firing"]
        return matching[0] if matching else None

    def mailed(self, name: str) -> EmailMessage | None:
        """Return the first mail about a firing alert of a name."""
        matching = [mail for mail in self.inboxes.emails if f"[PAGE] {name} " in mail["Subject"]]
        return matching[0] if matching else None

    def traces(self, link: str) -> list[dict[str, Any]]:
        """Return the traces behind the link of a notification, with the query of the Jaeger page."""
        assert link.startswith(f"{self.url('jaeger', 'query')}/search?")
        answer = httpx.get(link.replace("/search?", "/api/traces?"), timeout=30)
        data: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return data


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Run a stack that sends its alerts to local receivers and evaluates its rules every two seconds.

    Without Loki, a receiver takes its place that rejects the records of the service `latecomer`, as Loki would.
    """
    environment = {"ALERT_CHANNELS": "webhook,email", "RUNBOOKS_URL": RUNBOOKS}
    configs = []
    with ExitStack() as entered:
        if not has_loki():
            stand_in = entered.enter_context(otlp_http())
            stand_in.respond = lambda sent: Response(400 if b"latecomer" in gzip.decompress(sent.body) else 200)
            environment["LOKI_OTLP_ENDPOINT"] = stand_in.url
            configs.append(LOKI_ELSEWHERE)
        inboxes = entered.enter_context(notification_receivers())
        stack = entered.enter_context(running_stack(collector_configs=configs, environment=environment))
        inboxes.connect(stack.layout.config / "deploy" / "alertmanager")
        prometheus = stack.layout.config / "deploy" / "prometheus" / "prometheus.yml"
        text = prometheus.read_text()
        prometheus.write_text(text.replace("evaluation_interval: 15s", "evaluation_interval: 2s"))
        assert prometheus.read_text() != text
        for component in ("alertmanager", "prometheus"):
            os.kill(stack.status(component).pid, signal.SIGHUP)
        yield Watched(stack, inboxes)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example bundle."""
    return build_example(tmp_path_factory.mktemp("bundles") / "breast-cancer")


@contextmanager
def service(watched: Watched, bundle: Path, name: str, **settings: str) -> Iterator[str]:
    """Serve the bundle under its own service name, with telemetry to the stack. Yield the base URL."""
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": watched.url("otelcol", "http"),
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop",
        "OTEL_SERVICE_NAME": name,
        **settings,
    }
    with running_service(bundle, seconds=180, **env) as (_, url):
        yield url


@pytest.fixture(scope="module")
def credit_risk(watched: Watched, bundle: Path) -> Iterator[str]:
    """Run a service that is healthy as long as its clients are."""
    with service(watched, bundle, "credit-risk", MODELTRACE_EVALUATION_INTERVAL="2") as url:
        yield url


def server_spans(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the SERVER spans of traces, with their tags as a mapping."""
    spans = [span | {"tags": {t["key"]: t["value"] for t in span["tags"]}} for t in traces for span in t["spans"]]
    return [span for span in spans if span["tags"].get("span.kind") == "server"]


def test_a_latency_spike_reaches_a_mailbox_and_a_webhook_with_its_traces(watched: Watched, credit_risk: str) -> None:
    """A fifth of the requests takes 2 s. Mail and webhook report it, and their link finds such requests."""
    with running(["modeltrace", "traffic", credit_risk, "--unmarked", "--rate", "10", "--slow", "0.2"]):
        post = wait_until(lambda: watched.posted("HighLatency"), seconds=180, description="the alert over the webhook")
        mail = wait_until(lambda: watched.mailed("HighLatency"), description="the alert by mail")
    link = post["annotations"]["traces"]
    spans = wait_until(lambda: server_spans(watched.traces(link)), description="traces behind the link")

    assert post["labels"] == {
        "alertname": "HighLatency",
        "channels": "webhook,email",
        "http_request_method": "POST",
        "http_route": "/predict",
        "job": "shop/credit-risk",
        "severity": "page",
        "team": "sre",
    }
    assert post["annotations"]["runbook_url"] == f"{RUNBOOKS}#highlatency"
    assert {span["operationName"] for span in spans} == {"POST /predict"}
    assert min(span["duration"] for span in spans) > 300_000

    body = mail.get_body(("plain",))
    assert body is not None
    assert all(text in body.get_content() for text in (post["annotations"]["summary"], link, f"{RUNBOOKS}#highlatency"))


def test_the_first_failures_of_a_service_cause_a_notification(watched: Watched, bundle: Path) -> None:
    """A service that is overloaded from its first request answers 503. The link finds exactly those traces."""
    busy = {"MODELTRACE_INFERENCE_THREADS": "1", "MODELTRACE_MAX_QUEUE_SIZE": "1"}
    with service(watched, bundle, "overloaded", **busy) as url:
        arguments = ["--rate", "40", "--batch", "500", "--count", "80"]
        with running(["modeltrace", "traffic", url, "--unmarked", *arguments], env={"OTEL_SDK_DISABLED": "true"}):
            post = wait_until(lambda: watched.posted("RequestFailures"), description="the alert over the webhook")
        link = post["annotations"]["traces"]
        spans = wait_until(lambda: server_spans(watched.traces(link)), description="traces behind the link")

    assert post["labels"]["job"] == "shop/overloaded"
    assert {span["tags"]["http.response.status_code"] for span in spans} == {503}


def test_the_first_record_that_loki_rejects_causes_an_alert(watched: Watched) -> None:
    """The failure counter of the Collector appears with its first failure, and this failure fires the alert."""
    old = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    record = {"timeUnixNano": f"{old:.0f}000000000", "body": {"stringValue": "too late"}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "latecomer"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    httpx.post(f"{watched.url('otelcol', 'http')}/v1/logs", json=body).raise_for_status()

    post = wait_until(lambda: watched.posted("CollectorDroppingTelemetry"), description="the alert over the webhook")

    assert post["labels"]["exporter"] == "otlp_http/loki"
    assert post["labels"]["signal"] == "log records"
    assert post["annotations"]["summary"].endswith("log records did not get to otlp_http/loki")


def test_rules_use_metrics_that_exist(watched: Watched, bundle: Path, credit_risk: str) -> None:
    """Each metric of a rule is recorded by another rule or emitted by a component, and no rule fails."""
    rules = [rule for group in watched.query("rules")["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in names(watched.query("parse_query", query=rule["query"]))}
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    sent = named - recorded | {"receiver:otelcol_refused:increase10m"}
    sent = {name for name in sent if not name.startswith(OTHER_MODELS)}

    # Metrics that exist only after an error: a row that violates the schema, an invalid label.
    httpx.post(f"{credit_risk}/predict", json={"features": {}}, timeout=30)
    httpx.post(f"{credit_risk}/feedback", json={}, timeout=30)

    def missing() -> set[str]:
        return sent - set(watched.query("label/__name__/values"))

    labelled = ["--bundle", str(bundle), "--feedback", "1", "--feedback-delay", "1s"]
    with running(["modeltrace", "traffic", credit_risk, "--unmarked", *labelled]):
        with suppress(AssertionError):  # the assertion below names the missing metrics
            wait_until(lambda: not missing(), description="every metric")
        assert missing() == set()

    assert {(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"} == set()


def test_only_services_have_metrics_of_served_requests(watched: Watched, credit_risk: str) -> None:
    """The HTTP metrics of Collector and Jaeger are not mistaken for those of a service."""
    query = "count by (job) (last_over_time(http_server_request_duration_seconds_count[1h]))"

    def jobs() -> set[str]:
        return {series["metric"]["job"] for series in watched.query("query", query=query)["result"]}

    with running(["modeltrace", "traffic", credit_risk, "--unmarked"]):
        wait_until(lambda: "shop/credit-risk" in jobs(), description="the service's metrics")

    assert all(job.startswith("shop/") for job in jobs())


def names(node: object) -> Iterator[str]:
    """Return the metrics that a parsed query selects by their full name."""
    if isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector") and node.get("name"):
            yield node["name"]
        for value in node.values():
            yield from names(value)
    elif isinstance(node, list):
        for value in node:
            yield from names(value)
