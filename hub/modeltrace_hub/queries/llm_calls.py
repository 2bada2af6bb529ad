"""List LLM calls, and read the conversations of a trace."""

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field

from modeltrace_hub.queries.conditions import sql_conditions
from modeltrace_hub.queries.filter_fields import FieldSet
from modeltrace_hub.queries.list_fields import LLM_FIELDS
from modeltrace_hub.queries.list_parameters import Duration, LimitedText, RecordPage, TraceId
from modeltrace_hub.queries.llm_attributes import OTHER_OPERATIONS, text_list
from modeltrace_hub.queries.llm_conversation import Conversation, read_conversation
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.search_windows import NOT_NEWER_THAN_CURSOR, collect_newest, cut_page
from modeltrace_hub.queries.trace import locate_trace

MAX_LOGS: Final = 2000
# Longer texts of a list of calls are cut, and a call has at most so many finish reasons.
MAX_TEXT: Final = 500
MAX_FINISH_REASONS: Final = 20


class LlmFilter(RecordPage):
    """Filter LLM calls."""

    parameter_conditions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "service": ("service", "="),
        "model": ("model", "="),
        "operation": ("operation", "="),
        "trace_id": ("trace_id", "="),
        "min_duration": ("duration", ">="),
        "error": ("error", "="),
    }

    model: LimitedText = Field(None, description="The requested model.")
    operation: LimitedText = Field(None, description="The operation, such as `chat`.")
    trace_id: TraceId | None = Field(None, description="In this trace.")
    min_duration: Duration = Field(None, description="At least this long.", json_schema_extra={"type": "string"})
    error: bool | None = Field(None, description="Failed (true), or not (false).")

    @property
    def field_set(self) -> FieldSet:
        """The fields of the filter line."""
        return LLM_FIELDS


def list_llm_calls(reader: Reader, filters: LlmFilter) -> tuple[list[Record], str | None]:
    """Return matching LLM calls, newest first, and the cursor of the next page; None if there is no next page.

    Returns:
        A record of each call with shortened texts: its span (`trace_id`, `span_id`, `name`, `service_name`,
        `effective_ns`, `duration_ns`, `status_code`, `error_type`) and the fields of `LlmCall`.
    """
    conditions, values = sql_conditions(reader, filters.conditions)
    cursor_ns, cursor_received_ns, skip = filters.cursor_position
    if filters.cursor is not None:
        conditions.append(NOT_NEWER_THAN_CURSOR)
        values |= {"cursor_ns": cursor_ns, "cursor_received_ns": cursor_received_ns}
    since_ns, until_ns = filters.time_range["since_ns"], min(filters.time_range["until_ns"], cursor_ns)
    arrival = reader.fetch_one("locate_llm_calls", since_ns=since_ns, until_ns=until_ns)
    newest_ns = arrival.pop("newest_ns")
    if newest_ns is None:
        return [], None

    def fetch(since_ns: int, until_ns: int, limit: int) -> list[Record]:
        return reader.fetch_all(
            "list_llm_calls",
            conditions,
            **values,
            **arrival,
            other_operations=sorted(OTHER_OPERATIONS),
            since_ns=since_ns,
            until_ns=until_ns,
            limit=limit,
        )

    calls = collect_newest(fetch, min(newest_ns, until_ns), since_ns - 1, filters.limit + skip + 1)
    for call in calls:
        call["finish_reasons"] = [_cut(text) for text in text_list(call["finish_reasons"])[:MAX_FINISH_REASONS]]
        for name in ("name", "operation", "provider", "model", "response_model", "error_type"):
            call[name] = call[name] and _cut(call[name])
    return cut_page(calls, filters.limit, skip)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def read_span_conversation(reader: Reader, trace: Record, span: Record) -> Conversation | None:
    """Return the conversation of a span; None if it is not a span of an LLM application.

    Args:
        reader: runs the queries.
        trace: the result of `locate_trace`.
        span: a span with all columns.
    """
    conversation = read_conversation(span, ())
    if conversation is None:
        return None
    logs = reader.fetch_all("list_trace_llm_logs", **trace, span_id=span["span_id"], limit=MAX_LOGS)
    return read_conversation(span, logs) if logs else conversation


def read_trace_conversations(reader: Reader, trace_id: str, limit: int) -> Record | None:
    """Return the conversations of a trace, by start; None if nothing is stored under the ID.

    Returns:
        A record with the sums `llm_call_count`, `input_tokens` and `output_tokens`, and `spans`: at most `limit` spans
        of LLM applications, each with `span_id`, `name`, `service_name`, `start_ns`, `duration_ns`, `status_code` and
        `conversation`.
    """
    trace = locate_trace(reader, trace_id)
    counts = reader.fetch_one("count_trace_records", **trace)
    if not any(counts.values()):
        return None
    logs: dict[str | None, list[Record]] = {}
    for log in reader.fetch_all("list_trace_llm_logs", **trace, span_id=None, limit=MAX_LOGS):
        logs.setdefault(log["span_id"], []).append(log)
    spans = []
    for span in reader.fetch_all("list_trace_llm_spans", **trace, limit=limit):
        if (conversation := read_conversation(span, logs.get(span["span_id"], ()))) is not None:
            columns = ("span_id", "name", "service_name", "start_ns", "duration_ns", "status_code")
            spans.append({**{column: span[column] for column in columns}, "conversation": conversation})
    sums = {name: counts[name] for name in ("llm_call_count", "input_tokens", "output_tokens")}
    return {"trace_id": trace_id, **sums, "spans": spans}
