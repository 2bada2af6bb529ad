"""The backends that the suite is put to, each answering the same questions in the same form: the hub's own.

Jaeger keeps types; Loki keeps text, dots become underscores and maps are flattened; Prometheus adds unit and kind to a
name. What is undone here is only that: a value that did not arrive is not made up.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from service.telemetry import names
from stack.run import Stack
from tests.helpers.processes import until

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
LOOK_BACK = 3600
# What Loki keeps beside the attributes of a record and of its resource.
FIELDS = ("scope_name", "trace_id", "span_id", "severity_text", "event_name")


class Backend(Protocol):
    """Where telemetry ends up: how it is reached, and what can be asked of it."""

    @property
    def otlp(self) -> str:
        """The URL of OTLP over HTTP."""

    @property
    def grpc(self) -> str:
        """The URL of OTLP over gRPC."""

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Everything kept under one trace ID: spans, logs, exemplars, predictions; empty while nothing arrived."""

    def prediction_count(self, trace_id: str) -> int:
        """How many audit records are kept under it."""

    def reports(self, metric: str) -> bool:
        """Whether there are points of a metric, by its OpenTelemetry name."""


@dataclass(frozen=True)
class RealStack:
    """Collector, Jaeger, Prometheus and Loki."""

    otlp: str
    grpc: str
    jaeger: str
    loki: str
    prometheus: str
    sampling: str
    client: httpx.Client

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Everything kept under one trace ID, in the three stores."""
        logs = self.logs(trace_id)
        return {
            "spans": self.spans(trace_id),
            "logs": logs,
            "exemplars": self.exemplars(trace_id),
            "predictions": [log for log in logs if log["event_name"] == names.EVENT_PREDICTION],
        }

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """Jaeger's spans of a trace."""
        answer = self.client.get(f"{self.jaeger}/api/v3/traces/{trace_id}")
        if answer.status_code == 404:
            return []
        resources = answer.raise_for_status().json()["result"]["resourceSpans"]
        return [
            {
                "name": span["name"],
                "kind": KINDS[span["kind"]],
                "span_id": span["spanId"],
                "parent_span_id": span.get("parentSpanId", ""),
                "attributes": {a["key"]: _value(a["value"]) for a in span.get("attributes", [])},
                "links": [{"trace_id": one["traceId"], "span_id": one["spanId"]} for one in span.get("links", [])],
            }
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def logs(self, trace_id: str) -> list[dict[str, Any]]:
        """Loki's records of a trace."""
        found = self.loki_query(f'{{service_name=~".+"}} | trace_id="{trace_id}"')
        return [
            {
                **{name: stream["stream"].get(name, "") for name in FIELDS},
                "body": body,
                "attributes": _attributes(stream["stream"]),
            }
            for stream in found
            for _, body in stream["values"]
        ]

    def loki_query(self, query: str) -> list[dict[str, Any]]:
        """A LogQL query for records over the last hour, with up to 5,000 of them."""
        now = time.time()
        answer = self.client.get(
            f"{self.loki}/loki/api/v1/query_range",
            params={"query": query, "start": int(now - LOOK_BACK), "end": int(now + 60), "limit": 5000},
        )
        streams: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return streams

    def exemplars(self, trace_id: str) -> list[dict[str, Any]]:
        """Prometheus' exemplars of a trace."""
        now = time.time()
        answer = self.client.get(
            f"{self.prometheus}/api/v1/query_exemplars",
            params={"query": '{__name__=~"http_server_.+|ml_.+"}', "start": now - LOOK_BACK, "end": now + 60},
        )
        return [
            {
                "metric_name": _metric_name(series["seriesLabels"]["__name__"]),
                "span_id": exemplar["labels"]["span_id"],
                "attributes": _attributes(series["seriesLabels"]),
            }
            for series in answer.raise_for_status().json()["data"]
            for exemplar in series["exemplars"]
            if exemplar["labels"]["trace_id"] == trace_id
        ]

    def prediction_count(self, trace_id: str) -> int:
        """How many audit records Loki keeps under it."""
        query = (
            f'sum(count_over_time({{service_name=~".+"}} | event_name="ml.prediction" | trace_id="{trace_id}" [1h]))'
        )
        answer = self.client.get(f"{self.loki}/loki/api/v1/query", params={"query": query})
        return sum(int(found["value"][1]) for found in answer.raise_for_status().json()["data"]["result"])

    def reports(self, metric: str) -> bool:
        """Whether there are series of a metric."""
        listed = self.client.get(f"{self.prometheus}/api/v1/label/__name__/values").raise_for_status().json()["data"]
        return any(name.startswith(metric.replace(".", "_")) for name in listed)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """An instant PromQL query."""
        answer = self.client.get(f"{self.prometheus}/api/v1/query", params={"query": promql})
        series: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return series


def _value(value: Mapping[str, Any]) -> Any:
    """A value of OTLP's JSON, where whole numbers are text."""
    ((kind, inner),) = value.items()
    return int(inner) if kind == "intValue" else inner


def _metric_name(prometheus: str) -> str:
    """The OpenTelemetry name behind a name of Prometheus'."""
    known = ("http.server.request.duration", names.METRIC_INFERENCE_DURATION, names.METRIC_PREDICTIONS)
    labels = (names.METRIC_FEEDBACK_DELAY, names.METRIC_FEEDBACK_ERROR, names.METRIC_FEEDBACK_REJECTED)
    known = (*known, *labels, names.METRIC_FEEDBACK)  # the longest first
    for name in (*known, names.METRIC_CONFIDENCE, names.METRIC_VIOLATIONS, names.METRIC_OBSERVATIONS):
        if prometheus.startswith(name.replace(".", "_")):
            return name
    return prometheus


def _attributes(stored: Mapping[str, str]) -> dict[str, Any]:
    """Structured metadata under the names that the service gave, numbers as numbers."""
    inputs = names.ML_PREDICTION_INPUTS
    prefix = f"{inputs.replace('.', '_')}_"
    dotted = {v.replace(".", "_"): v for v in vars(names).values() if isinstance(v, str)}
    found: dict[str, Any] = {dotted.get(k, k): _number(v) for k, v in stored.items() if not k.startswith(prefix)}
    if flattened := {k.removeprefix(prefix): _number(v) for k, v in stored.items() if k.startswith(prefix)}:
        found[inputs] = flattened
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def real_stack_of(stack: Stack, client: httpx.Client) -> RealStack:
    """Return the backend of a stack that is running."""
    address = stack.layout.address
    return RealStack(
        otlp=f"http://{address('otelcol', 'http')}",
        grpc=f"http://{address('otelcol', 'grpc')}",
        jaeger=f"http://{address('jaeger', 'query')}",
        loki=f"http://{address('loki', 'http')}",
        prometheus=f"http://{address('prometheus', 'http')}",
        sampling=f"http://{address('jaeger', 'sampling')}",
        client=client,
    )


def wait_for_records(backend: Backend, trace_id: str, kind: str, number: int = 1) -> list[dict[str, Any]]:
    """Wait until a backend has `number` records of one kind under a trace ID; all of them."""

    def enough() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = backend.trace(trace_id)[kind]
        return found if len(found) >= number else None

    return until(enough, what=f"{number} {kind} of trace {trace_id}")
