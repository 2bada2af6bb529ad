"""Collect the details of the selected span of a trace: its fields, its self time, and its links in both directions."""

from collections.abc import Iterable
from typing import Any, Final

from modeltrace_hub.queries.llm_calls import read_span_conversation
from modeltrace_hub.queries.reader import Reader, Record
from modeltrace_hub.queries.span_times import self_time
from modeltrace_hub.queries.span_tree import find_parent

MAX_SPANS_PER_ID: Final = 20
MAX_CHILDREN: Final = 100_000
MAX_LINKED_SPANS: Final = 500
_TARGET: Final = ("trace_id", "span_id")


def span_details(reader: Reader, trace: Record, span_id: str | None, linking: Iterable[Record]) -> dict[str, Any]:
    """Return the variables of the template `_span.html`. There is one span with an ID, unless a sender uses it twice.

    Args:
        reader: runs the queries.
        trace: the result of `locate_trace`.
        span_id: the selected span; None if no span is selected.
        linking: the result of `find_linking_spans`.
    """
    if span_id is None:
        return {"selected_spans": [], "conversations": [], "own_times": [], "linked": {}, "linking": []}
    spans = reader.fetch_all("get_span", **trace, span_id=span_id, limit=MAX_SPANS_PER_ID)
    talks = [read_span_conversation(reader, trace, span) for span in spans]
    return {
        "conversations": talks,
        "selected_spans": [{**span, "grouped_links": group_links(span["links"], *_TARGET)} for span in spans],
        "own_times": _self_times(reader, trace, span_id, spans),
        "linked": _find_linked_spans(reader, [link for span in spans for link in span["links"]]),
        "linking": group_links((link for link in linking if link["linked_span_id"] == span_id), "trace_id"),
    }


def find_linking_spans(reader: Reader, trace: Record) -> list[Record]:
    """Return the spans of any trace that link to spans of this trace, by start."""
    parameters = {name: trace[name] for name in ("trace_id", "first_received_ns")}
    return reader.fetch_all("list_linking_spans", **parameters, limit=MAX_LINKED_SPANS)


def group_links(links: Iterable[Record], *keys: str) -> list[Record]:
    """Return one link for all with the same values of `keys`, with their `count` and the attributes that all have.

    A request with labels of a batch has a link to the same trace for each row.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for link in links:
        groups.setdefault(tuple(link[key] for key in keys), []).append(link)
    return [
        {**first, "count": 1 + len(others), "attributes": _shared_attributes(first, others)}
        for first, *others in groups.values()
    ]


def _shared_attributes(first: Record, others: Iterable[Record]) -> Record:
    attributes = [link["attributes"] or {} for link in others]
    return {
        key: value
        for key, value in (first["attributes"] or {}).items()
        if all(key in items and items[key] == value for items in attributes)
    }


def _self_times(reader: Reader, trace: Record, span_id: str, spans: list[Record]) -> list[int | None]:
    """Return the self time of each span with the ID."""
    related = reader.fetch_all("list_child_spans", **trace, span_id=span_id, limit=MAX_CHILDREN)
    candidates = [record for record in related if record["span_id"] == span_id]
    children = [(record, find_parent(record, candidates)) for record in related if record["parent_span_id"] == span_id]
    return [self_time(span, [child for child, parent in children if _is_same(span, parent)]) for span in spans]


def _is_same(span: Record, other: Record | None) -> bool:
    """Whether two records with the same ID are of one span."""
    return other is not None and all(span[name] == other[name] for name in ("service_name", "start_ns", "end_ns"))


def _find_linked_spans(reader: Reader, links: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """Return the spans that the links lead to, as far as they are stored, by trace ID and span ID."""
    targets = {(link["trace_id"], link["span_id"]) for link in links if link["trace_id"] and link["span_id"]}
    if not targets:
        return {}
    trace_ids, span_ids = (sorted(set(ids)) for ids in zip(*targets, strict=True))
    found = reader.fetch_all("list_linked_spans", trace_ids=trace_ids, span_ids=span_ids, limit=MAX_LINKED_SPANS)
    return {(span["trace_id"], span["span_id"]): span for span in found}
