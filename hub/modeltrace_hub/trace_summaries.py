"""Keep the table `traces` up to date: one row per trace, computed from its spans and log records.

A span that is sent twice counts once. The order in which records arrive does not matter.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

import duckdb
import orjson

from modeltrace_hub.decode.batch import Batch, Row
from modeltrace_hub.queries.attribute_values import finite_number, int_attribute, to_text
from modeltrace_hub.queries.llm_attributes import LLM_MARKS, LlmCall, read_llm_call
from modeltrace_hub.sql_files import MAX_CLOCK_SKEW_NS
from modeltrace_hub.trace_id_filter import TraceIdFilter

# Positions of the trace ID in the rows of the two tables.
_SPAN_TRACE_ID: Final = 1
_LOG_TRACE_ID: Final = 3
_SERVICE_NAME: Final = 19
_HTTP_STATUS: Final = "http.response.status_code"
_FETCH_ROWS: Final = 10_000


@dataclass(slots=True)
class TraceSummary:
    """One row of the table `traces`; the fields have the order of hub/modeltrace_hub/sql/schema/traces.sql."""

    received_ns: int
    first_received_ns: int
    trace_id: str
    log_count: int = 0
    span_count: int = 0
    error_count: int = 0
    services: list[str] = field(default_factory=list)
    error_services: list[str] = field(default_factory=list)
    start_ns: int | None = None
    timed_start_ns: int | None = None
    duration_ns: int | None = None
    root_has_parent: bool | None = None
    root_start_ns: int | None = None
    root_span_id: str | None = None
    name: str | None = None
    kind: str | None = None
    service_name: str | None = None
    status_code: int | None = None
    prediction_start_ns: int | None = None
    output: str | None = None
    confidence: float | None = None
    batch_size: int | None = None
    llm_call_count: int = 0
    llm_models: list[str] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None

    def add_arrivals(self, first_ns: int, last_ns: int) -> None:
        """Include the arrivals of records."""
        self.first_received_ns = min(self.first_received_ns, first_ns)
        self.received_ns = max(self.received_ns, last_ns)

    def add_span(self, row: Row) -> None:
        """Include a span that is not a duplicate. `row` has the columns of the table `spans`."""
        received_ns, _, span_id, parent_id, _, _, name, kind, start_ns, end_ns, _, status, _, attributes, *_ = row
        service = row[_SERVICE_NAME]
        self.span_count += 1
        if status == "ERROR":
            self.error_count += 1
            self.error_services = sorted({*self.error_services, service})
        effective_ns = start_ns if 0 < start_ns <= received_ns + MAX_CLOCK_SKEW_NS else received_ns
        self.start_ns = effective_ns if self.start_ns is None else min(self.start_ns, effective_ns)
        if 0 < start_ns <= end_ns:
            self._add_time(start_ns, end_ns)
        root_key = (self.root_has_parent, self.root_start_ns, self.root_span_id)
        if self.span_count == 1 or (parent_id is not None, effective_ns, span_id) < root_key:
            self.root_has_parent, self.root_start_ns, self.root_span_id = parent_id is not None, effective_ns, span_id
            self.name, self.kind, self.service_name = name, kind, service
            has_status = '"http.response.status_code"' in attributes
            self.status_code = int_attribute(orjson.loads(attributes), _HTTP_STATUS) if has_status else None
        others = {*self.services, service} - {self.service_name}
        self.services = [str(self.service_name), *sorted(others)]
        if kind == "SERVER" and '"ml.' in attributes:
            self._add_prediction(effective_ns, orjson.loads(attributes))
        if any(mark in attributes for mark in LLM_MARKS) and (call := read_llm_call(orjson.loads(attributes))):
            self._add_llm_call(call)

    def _add_time(self, start_ns: int, end_ns: int) -> None:
        if self.timed_start_ns is not None and self.duration_ns is not None:
            end_ns = max(end_ns, self.timed_start_ns + self.duration_ns)
            start_ns = min(start_ns, self.timed_start_ns)
        self.timed_start_ns, self.duration_ns = start_ns, end_ns - start_ns

    def _add_prediction(self, start_ns: int, attributes: Mapping[str, Any]) -> None:
        if "ml.prediction.id" not in attributes and "ml.inference.batch.size" not in attributes:
            return
        if self.prediction_start_ns is not None and self.prediction_start_ns <= start_ns:
            return
        self.prediction_start_ns = start_ns
        label = to_text(attributes.get("ml.prediction.label"))
        self.output = label if label is not None else to_text(attributes.get("ml.prediction.value"))
        self.confidence = finite_number(attributes.get("ml.prediction.confidence"))
        self.batch_size = int_attribute(attributes, "ml.inference.batch.size")

    def _add_llm_call(self, call: LlmCall) -> None:
        self.llm_call_count += 1
        if call.model is not None:
            self.llm_models = sorted({*self.llm_models, call.model})
        if call.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + call.input_tokens
        if call.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + call.output_tokens


_to_row: Final = attrgetter(*(column.name for column in fields(TraceSummary)))


def update_trace_summaries(
    connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch], known_traces: TraceIdFilter
) -> None:
    """Update the rows of all traces to which the batches add records.

    Args:
        connection: a connection in a transaction that has appended the batches.
        batches: the rows.
        known_traces: the stored traces, to which those of the batches are added.
    """
    spans: defaultdict[str, list[Row]] = defaultdict(list)
    log_arrivals: defaultdict[str, list[int]] = defaultdict(list)
    for batch in batches:
        for row in batch.tables.get("spans", ()):
            spans[row[_SPAN_TRACE_ID]].append(row)
        for row in batch.tables.get("logs", ()):
            if row[_LOG_TRACE_ID] is not None:
                log_arrivals[row[_LOG_TRACE_ID]].append(row[0])
    trace_ids = list({**spans, **log_arrivals})
    if not trace_ids:
        return
    summaries = _remove_stored(connection, [*filter(known_traces.may_contain, trace_ids)])
    duplicates = _find_stored_spans(connection, summaries, spans)
    for trace_id in trace_ids:
        known_traces.add(trace_id)
        arrivals = [row[0] for row in spans.get(trace_id, ())] + log_arrivals.get(trace_id, [])
        summary = summaries.setdefault(trace_id, TraceSummary(max(arrivals), min(arrivals), trace_id))
        summary.add_arrivals(min(arrivals), max(arrivals))
        summary.log_count += len(log_arrivals.get(trace_id, ()))
        for row in spans.get(trace_id, ()):
            if (identity := row[1:]) not in duplicates:
                duplicates.add(identity)
                summary.add_span(row)
    _append(connection, "traces", summaries.values())


def delete_trace_summaries(connection: duckdb.DuckDBPyConnection, cutoff_ns: int) -> None:
    """Delete the rows of traces without records, and compute those that lose a part of their records again.

    Args:
        connection: a connection in a transaction that has already deleted the records.
        cutoff_ns: the records that arrived before this time are deleted.
    """
    remaining = connection.execute(
        "SELECT trace_id FROM traces WHERE first_received_ns < $1 AND received_ns >= $1", [cutoff_ns]
    ).fetchall()
    connection.execute("DELETE FROM traces WHERE first_received_ns < ?", [cutoff_ns])
    if remaining:
        condition = "trace_id IN (SELECT unnest(?))"
        _append(connection, "traces", _summarize(connection, condition, [trace_id for (trace_id,) in remaining]))


def summarize_all_traces(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the empty table `traces` from all spans and log records.

    The traces are summarized in 16 parts, to limit the memory.
    """
    connection.execute("CREATE TEMP TABLE summaries AS FROM traces")
    for digit in "0123456789abcdef":
        _append(connection, "summaries", _summarize(connection, "ends_with(trace_id, ?)", digit))
    connection.execute("INSERT INTO traces FROM summaries ORDER BY received_ns")
    connection.execute("DROP TABLE summaries")


def _remove_stored(connection: duckdb.DuckDBPyConnection, trace_ids: Sequence[str]) -> dict[str, TraceSummary]:
    """Remove the rows of some traces from the table, and return them by trace ID."""
    if not trace_ids:
        return {}
    rows = connection.execute("FROM traces WHERE trace_id IN (SELECT unnest(?))", [trace_ids]).fetchall()
    stored = {summary.trace_id: summary for summary in (TraceSummary(*row) for row in rows)}
    if stored:
        # Rows are in the order of `received_ns`, so this limit excludes most of the table.
        connection.execute(
            "DELETE FROM traces WHERE received_ns >= ? AND trace_id IN (SELECT unnest(?))",
            [min(summary.received_ns for summary in stored.values()), list(stored)],
        )
    return stored


def _find_stored_spans(
    connection: duckdb.DuckDBPyConnection, stored: Mapping[str, TraceSummary], spans: Mapping[str, Sequence[Row]]
) -> set[Row]:
    """Return the spans, without their arrival, that are new and were stored before, too."""
    known = [trace_id for trace_id in spans if trace_id in stored and stored[trace_id].span_count]
    if not known:
        return set()
    first_ns = min(stored[trace_id].first_received_ns for trace_id in known)
    new = Counter(row[1:] for trace_id in known for row in spans[trace_id])
    rows = connection.execute(
        "FROM spans WHERE received_ns >= ? AND trace_id IN (SELECT unnest(?)) AND span_id IN (SELECT unnest(?))",
        [first_ns, known, [identity[1] for identity in new]],
    ).fetchall()
    return set(Counter(row[1:] for row in rows) - new)


def _summarize(connection: duckdb.DuckDBPyConnection, condition: str, value: object) -> Iterable[TraceSummary]:
    """Return the summaries of the traces that meet a condition, from all their records."""
    summaries: dict[str, TraceSummary] = {}
    identities: set[int] = set()
    result = connection.execute(f"FROM spans WHERE {condition}", [value])
    while rows := result.fetchmany(_FETCH_ROWS):
        for row in rows:
            trace_id = row[_SPAN_TRACE_ID]
            summary = summaries.setdefault(trace_id, TraceSummary(row[0], row[0], trace_id))
            summary.add_arrivals(row[0], row[0])
            if (identity := hash(row[1:])) not in identities:
                identities.add(identity)
                summary.add_span(row)
    logs = connection.execute(
        f"SELECT trace_id, min(received_ns), max(received_ns), count(*) FROM logs WHERE {condition} GROUP BY trace_id",  # noqa: S608  fixed conditions
        [value],
    ).fetchall()
    for trace_id, first_ns, last_ns, count in logs:
        summary = summaries.setdefault(trace_id, TraceSummary(last_ns, first_ns, trace_id))
        summary.add_arrivals(first_ns, last_ns)
        summary.log_count = count
    return summaries.values()


def _append(connection: duckdb.DuckDBPyConnection, table: str, summaries: Iterable[TraceSummary]) -> None:
    with connection.appender(table) as appender:
        appender.append_rows([_to_row(summary) for summary in summaries])
