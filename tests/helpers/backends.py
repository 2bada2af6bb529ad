"""Query the backends of the contract suite. Every backend returns telemetry in the form of the hub's API.

Prometheus adds unit and type to the name of a metric, and Jaeger returns OTLP/JSON; both are converted here. For log
records see log_stores.py. A value that is missing in a backend stays missing.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from modeltrace.telemetry import names
from modeltrace.telemetry.metrics import instruments
from stack.run import Stack
from tests.helpers.log_stores import LogStore, LokiLogs, attributes_of, log_store_of
from tests.helpers.processes import wait_until

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
LOOK_BACK = 3600


class Backend(Protocol):
    """A backend that receives OTLP, and the queries that the suite sends to it."""

    @property
    def otlp_url(self) -> str:
        """The URL of OTLP over HTTP."""

    @property
    def grpc_url(self) -> str:
        """The URL of OTLP over gRPC."""

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return everything stored under a trace ID: spans, logs, exemplars, predictions. Each list may be empty."""

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace."""

    def has_metric(self, metric: str) -> bool:
        """Return whether there are points of a metric, by its OpenTelemetry name."""


@dataclass(frozen=True)
class RealStack:
    """Collector, Jaeger, Prometheus, and Loki or the Collector's file."""

    otlp_url: str
    grpc_url: str
    jaeger: str
    log_store: LogStore
    prometheus: str
    sampling: str
    client: httpx.Client

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return everything stored under a trace ID in the three stores."""
        logs = self.logs(trace_id)
        return {
            "spans": self.spans(trace_id),
            "logs": logs,
            "exemplars": self.exemplars(trace_id),
            "predictions": [log for log in logs if log["event_name"] == names.EVENT_PREDICTION],
        }

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace in Jaeger."""
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
                "links": [{"trace_id": link["traceId"], "span_id": link["spanId"]} for link in span.get("links", [])],
            }
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def logs(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the log records of a trace."""
        return self.log_store.records(trace_id)

    @property
    def loki(self) -> LokiLogs:
        """Loki, for tests with the marker `loki`."""
        assert isinstance(self.log_store, LokiLogs)
        return self.log_store

    def exemplars(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the exemplars of a trace in Prometheus."""
        now = time.time()
        answer = self.client.get(
            f"{self.prometheus}/api/v1/query_exemplars",
            params={"query": '{__name__=~"http_server_.+|ml_.+"}', "start": now - LOOK_BACK, "end": now + 60},
        )
        return [
            {
                "metric_name": _metric_name(series["seriesLabels"]["__name__"]),
                "span_id": exemplar["labels"]["span_id"],
                "attributes": attributes_of(series["seriesLabels"]),
            }
            for series in answer.raise_for_status().json()["data"]
            for exemplar in series["exemplars"]
            if exemplar["labels"]["trace_id"] == trace_id
        ]

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace."""
        return self.log_store.prediction_count(trace_id)

    def has_metric(self, metric: str) -> bool:
        """Return whether there are series of a metric."""
        listed = self.client.get(f"{self.prometheus}/api/v1/label/__name__/values").raise_for_status().json()["data"]
        return any(name.startswith(metric.replace(".", "_")) for name in listed)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Return the series of an instant PromQL query."""
        answer = self.client.get(f"{self.prometheus}/api/v1/query", params={"query": promql})
        series: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return series


def _value(value: Mapping[str, Any]) -> Any:
    """Return the value of an `AnyValue` in OTLP/JSON, which writes integers as strings."""
    ((kind, inner),) = value.items()
    return int(inner) if kind == "intValue" else inner


def _metric_name(prometheus: str) -> str:
    """Return the OpenTelemetry name of a metric in Prometheus."""
    known = (instruments.REQUEST_DURATION, instruments.INFERENCE_DURATION, instruments.PREDICTIONS)
    labels = (instruments.FEEDBACK_DELAY, instruments.FEEDBACK_ERROR, instruments.FEEDBACK_REJECTED)
    known = (*known, *labels, instruments.FEEDBACK)  # the longest first
    for instrument in (*known, instruments.CONFIDENCE, instruments.VIOLATIONS, instruments.FEATURE_OBSERVATIONS):
        if prometheus.startswith(instrument.name.replace(".", "_")):
            return instrument.name
    return prometheus


def real_stack_of(stack: Stack, client: httpx.Client) -> RealStack:
    """Return the backend of a stack that is running."""
    address = stack.layout.address
    return RealStack(
        otlp_url=f"http://{address('otelcol', 'http')}",
        grpc_url=f"http://{address('otelcol', 'grpc')}",
        jaeger=f"http://{address('jaeger', 'query')}",
        log_store=log_store_of(stack, client),
        prometheus=f"http://{address('prometheus', 'http')}",
        sampling=f"http://{address('jaeger', 'sampling')}",
        client=client,
    )


def wait_for_records(backend: Backend, trace_id: str, kind: str, number: int = 1) -> list[dict[str, Any]]:
    """Wait until a backend has `number` records of a kind under a trace ID, and return all of them."""

    def enough() -> list[dict[str, Any]] | None:
        records: list[dict[str, Any]] = backend.trace(trace_id)[kind]
        return records if len(records) >= number else None

    return wait_until(enough, description=f"{number} {kind} of trace {trace_id}")
