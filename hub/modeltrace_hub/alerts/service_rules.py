"""Evaluate the rules about requests of services, and about telemetry, predictions and labels that services lose."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.rules import Condition, Rule, compare_text, format_value, make_labels
from modeltrace_hub.queries.attribute_values import text_attributes
from modeltrace_hub.queries.model_parameters import LOOKBACK_NS, MINUTE_NS
from modeltrace_hub.queries.reader import Reader, Record

# The counters of an hour are summed in steps of five minutes.
STEP_NS: Final = 5 * MINUTE_NS
STEPS: Final = 12
STALE_NS: Final = 5 * MINUTE_NS
SLOW_SECONDS: Final = 0.3
MAX_SLOW_SHARE: Final = 0.05
MAX_SLOW_REQUESTS: Final = 5
MAX_AVERAGE_SECONDS: Final = 0.5
MAX_FAILURES: Final = 5

REQUESTS: Final = "http.server.request.duration"
_ACTIVE_REQUESTS: Final = "http.server.active_requests"
_PREDICTIONS: Final = "ml.predictions"
_PREDICTION_ROUTE: Final = re.compile(r"/predict(/batch)?|/invocations|/v1/.+:predict|/v2/.+/infer")
_PROCESSED: Final = {"otel.sdk.processor.span.processed": "spans", "otel.sdk.processor.log.processed": "log records"}
_EXPORTED: Final = {"otel.sdk.exporter.span.exported": "spans", "otel.sdk.exporter.log.exported": "log records"}
_RESTARTS: Final = "modeltrace.sidecar.restarts"
_STORED_ROWS: Final = "modeltrace.store.rows"
_REJECTED_LABELS: Final = "ml.feedback.rejected"
_COUNTERS: Final = (
    *(REQUESTS, _PREDICTIONS, *_PROCESSED, *_EXPORTED),
    *(_RESTARTS, _STORED_ROWS, _REJECTED_LABELS),
)


def service_conditions(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the conditions of all services."""
    since_ns = now_ns - STEPS * STEP_NS
    window = {"since_ns": since_ns, "until_ns": now_ns}
    for row in reader.fetch_all("list_instances_by_metric", names=[*_COUNTERS], **window):
        counts = reader.fetch_all(
            "sum_service_counters",
            counters=[*_COUNTERS],
            step_ns=STEP_NS,
            lookback_ns=LOOKBACK_NS,
            with_sums=True,
            # Instance IDs are unique within a service only, and a sender may have none.
            counted_service=row["service_name"],
            **window,
        )
        yield from _counter_conditions(row["service_name"], _Counts(counts))
    yield from _services_down(reader, now_ns)
    recent = {"since_ns": now_ns - STALE_NS, "until_ns": now_ns}
    for row in reader.fetch_all("sum_spooled_items", **recent):
        summary = f"{row['service_name']} keeps {row['signal']} on disk; the number of items"
        yield _condition(
            rules.KEPT_ON_DISK, row["service_name"], row["items"], 0, summary, modeltrace_signal=row["signal"]
        )
    for row in reader.fetch_all("find_metric_overflows", **recent):
        summary = (
            f"{row['name']} of {row['service_name']} has more series than its limit; the number of overflow series"
        )
        path = f"metrics?{urlencode({'name': row['name']})}"
        labels = make_labels(job=row["service_name"], metric=row["name"])
        value = row["series_count"]
        yield Condition(rules.METRIC_OVERFLOW.name, labels, value, 0, f"{summary}: {format_value(value)}.", path)


class _Counts:
    """The increases of the counters of one service."""

    def __init__(self, rows: Iterable[Record]) -> None:
        self._by_name: dict[str, list[Record]] = defaultdict(list)
        self._sums: dict[str, list[Record]] = defaultdict(list)
        for row in rows:
            row["attributes"] = text_attributes(row["attributes"])
            (self._sums if row["bucket"] == 0 else self._by_name)[row["name"]].append(row)

    def rows(self, name: str, steps: int) -> list[Record]:
        """Return the increases of a counter in the last steps."""
        return [row for row in self._by_name[name] if row["step"] >= STEPS - steps]

    def sums(self, name: str, steps: int) -> list[Record]:
        """Return the increases of the sum of a histogram in the last steps."""
        return [row for row in self._sums[name] if row["step"] >= STEPS - steps]

    def total(self, name: str, steps: int, **attributes: str) -> float:
        """Return the sum over the series with these attributes; their names have `_` instead of dots."""
        return float(sum(row["added"] for row in self.rows(name, steps) if _has(row["attributes"], attributes)))


def _has(actual: Mapping[str, str], expected: Mapping[str, str]) -> bool:
    return all(actual.get(name.replace("_", ".")) == value for name, value in expected.items())


def _counter_conditions(service: str, counts: _Counts) -> Iterator[Condition]:
    yield from _slow_operations(service, counts)
    yield from _slow_averages(service, counts)
    failures = sum(
        row["added"]
        for row in counts.rows(REQUESTS, 1)
        if re.fullmatch("5..", row["attributes"].get("http.response.status_code", ""))
    )
    if failures > MAX_FAILURES:
        summary = f"The number of requests to {service} that failed within 5 minutes"
        yield _condition(rules.REQUEST_FAILURES, service, failures, MAX_FAILURES, summary)
    yield from _no_predictions(service, counts)
    for name, signal in _PROCESSED.items():
        if dropped := counts.total(name, 2, error_type="queue_full"):
            summary = f"The number of {signal} that {service} dropped within 10 minutes"
            yield _condition(rules.SDK_DROPPING, service, dropped, 0, summary, signal=signal)
    for name, signal in _EXPORTED.items():
        if failed := sum(row["added"] for row in counts.rows(name, 2) if row["attributes"].get("error.type")):
            summary = f"The number of {signal} that {service} could not deliver within 10 minutes"
            yield _condition(rules.SDK_EXPORTS_FAILING, service, failed, 0, summary, signal=signal)
    if restarts := counts.total(_RESTARTS, 2):
        summary = f"How often the sidecar of {service} ended and was replaced within 10 minutes"
        yield _condition(rules.SIDECAR_RESTARTING, service, restarts, 0, summary)
    if lost := counts.total(_STORED_ROWS, 2, modeltrace_outcome="lost"):
        summary = f"The number of predictions that the prediction store of {service} lost within 10 minutes"
        yield _condition(rules.PREDICTIONS_NOT_STORED, service, lost, 0, summary)
    if labels := sum(
        row["added"]
        for row in counts.rows(_REJECTED_LABELS, 2)
        if row["attributes"].get("error.type") == "store_unavailable"
    ):
        summary = f"The number of labels that {service} could not store within 10 minutes"
        yield _condition(rules.LABELS_NOT_STORED, service, labels, 0, summary)


def _slow_operations(service: str, counts: _Counts) -> Iterator[Condition]:
    """Compare the share of slow requests of each operation. Histograms without a bound of 0.3 s are left out."""
    totals: defaultdict[tuple[str, str], float] = defaultdict(float)
    slow: defaultdict[tuple[str, str], float] = defaultdict(float)
    for row in counts.rows(REQUESTS, 1):
        bounds = row["bounds"] or []
        if SLOW_SECONDS not in bounds:
            continue
        operation = _operation(row)
        totals[operation] += row["added"]
        if row["bucket"] > bounds.index(SLOW_SECONDS) + 1:
            slow[operation] += row["added"]
    for operation, count in slow.items():
        share = count / totals[operation]
        if share > MAX_SLOW_SHARE and count > MAX_SLOW_REQUESTS:
            method, route = operation
            summary = f"The share of {method} {route} of {service} that took longer than 300 ms within 5 minutes"
            labels = {"http_request_method": method, "http_route": route}
            yield _condition(rules.HIGH_LATENCY, service, share, MAX_SLOW_SHARE, summary, **labels)


def _slow_averages(service: str, counts: _Counts) -> Iterator[Condition]:
    """Compare the average duration of each operation."""
    numbers: defaultdict[tuple[str, str], float] = defaultdict(float)
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for row in counts.rows(REQUESTS, 1):
        numbers[_operation(row)] += row["added"]
    for row in counts.sums(REQUESTS, 1):
        seconds[_operation(row)] += row["added"]
    for operation, number in numbers.items():
        average = seconds[operation] / number
        if average > MAX_AVERAGE_SECONDS:
            method, route = operation
            summary = f"The average duration of {method} {route} of {service} within 5 minutes, in seconds"
            labels = {"http_request_method": method, "http_route": route}
            yield _condition(rules.HIGH_AVERAGE_LATENCY, service, average, MAX_AVERAGE_SECONDS, summary, **labels)


def _operation(row: Record) -> tuple[str, str]:
    """Return method and route of the requests of a histogram."""
    return row["attributes"].get("http.request.method", ""), row["attributes"].get("http.route", "")


def _no_predictions(service: str, counts: _Counts) -> Iterator[Condition]:
    requests = sum(
        row["added"]
        for row in counts.rows(REQUESTS, 2)
        if _PREDICTION_ROUTE.fullmatch(row["attributes"].get("http.route", ""))
    )
    earlier = counts.total(_PREDICTIONS, STEPS)
    if (earlier or requests) and not counts.total(_PREDICTIONS, 2):
        summary = f"{service} makes no predictions: it has made none for 10 minutes"
        yield _condition(rules.NO_PREDICTIONS, service, earlier or requests, None, summary)


def _services_down(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the services that sent metrics of requests within the last hour and none for five minutes."""
    names = [_ACTIVE_REQUESTS]
    hour = reader.fetch_all("list_instances_by_metric", names=names, since_ns=now_ns - STEPS * STEP_NS, until_ns=now_ns)
    recent = reader.fetch_all("list_instances_by_metric", names=names, since_ns=now_ns - STALE_NS, until_ns=now_ns)
    alive = {row["service_name"] for row in recent}
    for row in hour:
        if row["service_name"] not in alive:
            summary = f"{row['service_name']} sends no telemetry any more: it has sent no metrics for 5 minutes"
            yield _condition(rules.SERVICE_DOWN, row["service_name"], len(row["instances"]), None, summary)


def _condition(
    rule: Rule, service: str, value: float, threshold: float | None, summary: str, **labels: str
) -> Condition:
    path = f"traces?{urlencode({'service': service, 'since': '1h'})}"
    text = compare_text(summary, value, threshold)
    return Condition(rule.name, make_labels(job=service, **labels), value, threshold, text, path)
