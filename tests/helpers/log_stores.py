"""Query the log records of the real stack in Loki, or in the Collector's file if the stack has no Loki.

Both return records in the same form. Loki stores attributes as text, replaces dots by underscores and flattens maps;
this conversion is inverted here. The file contains the records as OTLP/JSON.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from modeltrace.telemetry import names
from stack.run import Stack
from tests.helpers.collector import items_of

LOOK_BACK = 3600
PAGE = 5000
REQUEST = '{"resourceLogs"'
# Fields of a record in Loki that are not attributes of the record or its resource.
FIELDS = ("scope_name", "trace_id", "span_id", "severity_text", "event_name")


class LogStore(Protocol):
    """The queries of a log store."""

    def records(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the records of a trace."""

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace."""

    def record_counts(self, service: str) -> Counter[str]:
        """Count the prediction log records of a service by prediction ID."""


@dataclass(frozen=True)
class LokiLogs:
    """Loki, queried with LogQL."""

    url: str
    client: httpx.Client

    def records(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the records of a trace."""
        return [
            {
                **{name: stream["stream"].get(name, "") for name in FIELDS},
                "body": body,
                "attributes": attributes_of(stream["stream"]),
            }
            for stream in self.query(f'{{service_name=~".+"}} | trace_id="{trace_id}"')
            for _, body in stream["values"]
        ]

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the streams of a LogQL query over the last hour, with up to 5,000 records."""
        now = time.time()
        return self._range(query, start=int(now - LOOK_BACK), end=int(now + 60))

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace."""
        query = (
            f'sum(count_over_time({{service_name=~".+"}} | event_name="ml.prediction" | trace_id="{trace_id}" [1h]))'
        )
        answer = self.client.get(f"{self.url}/loki/api/v1/query", params={"query": query})
        return sum(int(sample["value"][1]) for sample in answer.raise_for_status().json()["data"]["result"])

    def record_counts(self, service: str) -> Counter[str]:
        """Count the prediction log records of a service by prediction ID, page by page."""
        counts: Counter[str] = Counter()
        query = f'{{service_name="{service}"}} | event_name="ml.prediction"'
        start = time.time_ns() - LOOK_BACK * 10**9
        while True:
            streams = self._range(query, start=start, end=time.time_ns(), direction="forward")
            page = sorted((int(at), s["stream"]["ml_prediction_id"]) for s in streams for at, _ in s["values"])
            counts.update(prediction for _, prediction in page)
            if len(page) < PAGE:
                return counts
            start = page[-1][0] + 1

    def _range(self, query: str, **params: str | int) -> list[dict[str, Any]]:
        answer = self.client.get(
            f"{self.url}/loki/api/v1/query_range", params={"query": query, "limit": PAGE, **params}
        )
        streams: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return streams


@dataclass(frozen=True)
class FileLogs:
    """The Collector's file, and those that it was rotated to. `fetch` may first copy them from elsewhere."""

    path: Path
    fetch: Callable[[], object] = lambda: None

    def records(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the records of a trace."""
        return [
            {
                "scope_name": record["scope"],
                "trace_id": trace_id,
                "span_id": record.get("spanId", ""),
                "severity_text": record.get("severityText", ""),
                "event_name": record.get("eventName", ""),
                "body": record.get("body", {}).get("stringValue", ""),
                "attributes": record["resource"] | record["attributes"],
            }
            for record in self._matching(trace_id)
            if record.get("traceId") == trace_id
        ]

    def prediction_count(self, trace_id: str) -> int:
        """Count the prediction log records of a trace. A record that was delivered twice counts once."""
        return len(
            {
                record["attributes"][names.ML_PREDICTION_ID]
                for record in self.records(trace_id)
                if record["event_name"] == names.EVENT_PREDICTION
            }
        )

    def record_counts(self, service: str) -> Counter[str]:
        """Count the prediction log records of a service by prediction ID."""
        return Counter(
            record["attributes"][names.ML_PREDICTION_ID]
            for record in self._matching(service)
            if record["resource"]["service.name"] == service and record.get("eventName") == names.EVENT_PREDICTION
        )

    def _matching(self, text: str) -> Iterator[dict[str, Any]]:
        """Yield the records of the lines that contain a text."""
        self.fetch()
        files = sorted(self.path.parent.glob(f"{self.path.stem}*{self.path.suffix}"))
        lines = [line for file in files for line in file.read_text(errors="replace").split("\n")[:-1] if text in line]
        # A killed Collector may leave an incomplete line, to which the next line is appended.
        return items_of("logs", (json.loads(line[line.rfind(REQUEST) :]) for line in lines))


def log_store_of(stack: Stack, client: httpx.Client) -> LogStore:
    """Return the log store of a stack that is running."""
    if stack.layout.log_record_file:
        return FileLogs(stack.layout.log_record_file)
    return LokiLogs(f"http://{stack.layout.address('loki', 'http')}", client)


def attributes_of(stored: Mapping[str, str]) -> dict[str, Any]:
    """Return the labels and structured metadata of Loki with the names and number types of OTLP attributes."""
    inputs = names.ML_PREDICTION_INPUTS
    prefix = f"{inputs.replace('.', '_')}_"
    dotted = {v.replace(".", "_"): v for v in vars(names).values() if isinstance(v, str)}
    attributes: dict[str, Any] = {dotted.get(k, k): _number(v) for k, v in stored.items() if not k.startswith(prefix)}
    if flattened := {k.removeprefix(prefix): _number(v) for k, v in stored.items() if k.startswith(prefix)}:
        attributes[inputs] = flattened
    return attributes


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
