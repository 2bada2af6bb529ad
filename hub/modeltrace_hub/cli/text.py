"""Format answers of the API for a terminal. Control characters of telemetry are escaped."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from modeltrace_hub.alerts.groups import group_alerts, more_text
from modeltrace_hub.alerts.rules import Condition, make_labels
from modeltrace_hub.queries.span_tree import build_tree
from modeltrace_hub.web.format import duration, plural, utc_time

# C0 and C1 control characters, and those that change the direction of text.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MAX_CELL: Final = 60
# Deeper spans of a trace are indented as this depth.
MAX_INDENTED_DEPTH: Final = 40


def escape(value: object) -> str:
    """Return a value as one line of text that a terminal does not interpret."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def format_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with aligned columns. All cells but those of the last column are cut at `MAX_CELL`."""
    cells = [[*head], *([escape(value) for value in row] for row in rows)]
    cells = [[*(_cut(cell) for cell in row[:-1]), row[-1]] for row in cells]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in cells
    )


def _cut(cell: str) -> str:
    return cell if len(cell) <= MAX_CELL else cell[: MAX_CELL - 1] + "…"


def traces_text(answer: Mapping[str, Any]) -> str:
    """Return the list of traces."""
    rows = [
        (
            _time(trace["start_ns"]),
            _duration(trace["duration_ns"]),
            trace["status_code"],
            trace["error_count"] or "",
            trace["trace_id"],
            ",".join(trace["services"]),
            trace["name"],
        )
        for trace in answer["traces"]
    ]
    if not rows:
        return "No trace matches."
    return format_table(("STARTED", "DURATION", "STATUS", "ERRORS", "TRACE", "SERVICES", "NAME"), rows)


def llm_calls_text(answer: Mapping[str, Any]) -> str:
    """Return the list of LLM calls."""
    rows = [
        (
            _time(call["effective_ns"]),
            _duration(call["duration_ns"]),
            call["model"],
            call["operation"],
            call["input_tokens"],
            call["output_tokens"],
            call["error_type"] or "error" if call["status_code"] == "ERROR" else ",".join(call["finish_reasons"]),
            call["service_name"],
            call["trace_id"],
        )
        for call in answer["llm_calls"]
    ]
    head = ("STARTED", "DURATION", "MODEL", "OPERATION", "INPUT", "OUTPUT", "RESULT", "SERVICE", "TRACE")
    return format_table(head, rows) if rows else "No LLM call matches."


def services_text(answer: Mapping[str, Any]) -> str:
    """Return the table of services."""
    rows = [
        (
            service["service_name"],
            service["request_count"],
            _number(service["per_second"]),
            _number(service["error_share"]),
            _duration(service["p50_ns"]),
            _duration(service["p95_ns"]),
            _duration(service["p99_ns"]),
        )
        for service in answer["services"]
    ]
    head = ("SERVICE", "REQUESTS", "PER SECOND", "ERROR SHARE", "P50", "P95", "P99")
    return format_table(head, rows) if rows else "No spans have arrived in this time."


def series_text(answer: Mapping[str, Any]) -> str:
    """Return a metric over time: one column for each group of series, and for each quantile."""
    groups = answer["groups"]
    columns = [group["values"] for group in groups] + [*answer["quantiles"].values()]
    title = {"value": "", "rate": " per second"}.get(answer["kind"], ", measurements per second and quantiles")
    rows = [
        (_time(answer["since_ns"] + step * answer["step_ns"]), *(_number(values[step]) for values in columns))
        for step in range(answer["steps"])
        if any(values[step] is not None for values in columns)
    ]
    if not rows:
        return "No data in this time."
    names = [escape(group["name"]) or "all" for group in groups] + [*answer["quantiles"]]
    unit = f" ({escape(answer['unit'])})" if answer["unit"] else ""
    return f"{escape(answer['name'])}{unit}{title}\n{format_table(('TIME', *names), rows)}"


def logs_text(answer: Mapping[str, Any]) -> str:
    """Return the list of log records."""
    rows = [
        (_time(log["time_ns"]), log["severity_text"], log["service_name"], log["trace_id"], _body(log))
        for log in answer["logs"]
    ]
    return format_table(("TIME", "SEVERITY", "SERVICE", "TRACE", "BODY"), rows) if rows else "No log record matches."


def trace_text(answer: Mapping[str, Any]) -> str:
    """Return one trace: the tree of its spans, its log records, and why parts are missing."""
    tree = build_tree(answer["spans"])
    rows = [_span_row(span, depth) for span, depth in zip(tree.spans, tree.depths, strict=True)]
    parts = [f"trace {answer['trace_id']}"]
    if rows:
        parts.append(format_table(("DURATION", "STATUS", "SERVICE", "SPAN", "NAME"), rows))
    if answer["span_count"] > len(rows):
        parts.append(f"{plural(answer['span_count'] - len(rows), 'more span')} (--limit)")
    if answer["logs"]:
        parts.append(logs_text(answer))
    parts += [f"{name}: {reason}" for name, reason in answer["empty_reasons"].items() if reason]
    return "\n\n".join(parts)


def metrics_text(answer: Mapping[str, Any]) -> str:
    """Return the list of metrics, or the points of one."""
    if "metrics" in answer:
        rows = [(metric["name"], metric["type"], metric["unit"], metric["description"]) for metric in answer["metrics"]]
        return format_table(("NAME", "TYPE", "UNIT", "DESCRIPTION"), rows) if rows else "No metrics have arrived."
    points = [
        (
            _time(point["time_ns"]),
            point["value"] if point["count"] is None else f"count {point['count']} sum {point['sum']}",
            point["service_name"],
            point["attributes"],
        )
        for point in answer["points"]
    ]
    return format_table(("TIME", "VALUE", "SERVICE", "ATTRIBUTES"), points) if points else "No data point matches."


def alerts_text(answer: Mapping[str, Any], receivers: Mapping[str, Collection[str]] | None = None) -> str:
    """Return the alerts; if receivers are given by name with the names of their alerts, also who gets each."""
    if answer["error"] is not None:
        return f"The last evaluation failed: {escape(answer['error'])}"
    note = (
        ""
        if receivers is None
        else "\nThe file is valid. Nothing was sent; docs/alerts.md shows how to test a receiver."
    )
    rows = []
    for group in group_alerts(answer["alerts"], _condition_and_state):
        alert = group.worst
        since = "" if alert["since_ns"] is None else _time(alert["since_ns"])
        row = [alert["state"], alert["severity"], since, alert["alert"]]
        if receivers is not None:
            row.append(",".join(name for name, rules in receivers.items() if alert["alert"] in rules) or "nobody")
        rows.append([*row, alert["summary"] + more_text(group)])
    if not rows:
        return f"No alert rule is true.{note}"
    head = ["STATE", "SEVERITY", "SINCE", "ALERT", *(["RECEIVERS"] if receivers is not None else []), "WHAT"]
    left_out = [f"{number:,} more conditions of {rule} are left out." for rule, number in answer["left_out"].items()]
    return "\n".join([format_table(head, rows), *left_out]) + note


def _condition_and_state(alert: Mapping[str, Any]) -> tuple[Condition, str]:
    """Return the condition and the state of an alert of the API."""
    labels = make_labels(**alert["labels"])
    value = alert["value"] or 0.0  # JSON has null for an infinite value
    condition = Condition(alert["alert"], labels, value, alert["threshold"], alert["summary"], alert["path"])
    return condition, alert["state"]


def sql_text(answer: Mapping[str, Any]) -> str:
    """Return the rows of a query."""
    text = format_table([escape(column["name"]) for column in answer["columns"]], answer["rows"])
    rows = plural(len(answer["rows"]), "row")
    return f"{text}\n({rows}{'; more rows were cut, see --limit' if answer['truncated'] else ''})"


def explain_text(answer: Mapping[str, Any]) -> str:
    """Return the over-represented properties, the significant ones first."""
    selected, other = answer["selected"], answer["other"]
    parts = [f"{selected['count']:,} selected {answer['of']} against {other['count']:,}; {answer['tests']:,} tests"]
    for title in ("properties", "outcomes"):
        rows = [
            (
                "*" if item["significant"] else "",
                item["kind"],
                item["key"],
                _value(item),
                f"{item['selected_count']}/{selected['sampled']}",
                f"{item['other_count']}/{other['sampled']}",
                f"{item['difference']:+.3f} [{item['difference_low']:+.3f}, {item['difference_high']:+.3f}]",
            )
            for item in answer[title]
        ]
        if rows:
            head = ("", "KIND", "KEY", "VALUE", "SELECTED", "OTHER", "DIFFERENCE [95 % INTERVAL]")
            parts.append(f"{title}\n{format_table(head, rows)}")
    if len(parts) == 1:
        parts.append("No property is over-represented.")
    return "\n\n".join(parts)


def _value(item: Mapping[str, Any]) -> str:
    """Return the value of a property, or the bounds of its bin."""
    low, high = item["low"], item["high"]
    if not item["is_bin"]:
        return escape(item["value"])
    return f"> {low}" if high is None else f"<= {high}" if low is None else f"{low} to {high}"


TextFormat = Callable[[Mapping[str, Any]], str]


def _span_row(span: Mapping[str, Any], depth: int) -> Sequence[object]:
    name = f"{'  ' * (min(depth, MAX_INDENTED_DEPTH) - 1)}└ {span['name']}" if depth else span["name"]
    if span["status_message"]:
        name += f"  ({span['status_message']})"
    return (_duration(span["duration_ns"]), span["status_code"], span["service_name"], span["span_id"], name)


def _body(log: Mapping[str, Any]) -> str:
    return str(log["event_name"] if log["body"] is None else log["body"])


def _time(ns: int) -> str:
    return utc_time(ns).removesuffix(" UTC")[:-3] + "Z"


def _number(value: float | str | None) -> str:
    """Return a number with six significant digits, and a number that JSON lacks as it is."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _duration(ns: int | None) -> str:
    return "" if ns is None else duration(ns).replace("\u202f", " ")
