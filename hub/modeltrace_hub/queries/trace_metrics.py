"""Find the metric points that a trace contributed to.

Few requests have an exemplar, because the SDK records one exemplar per bucket and export interval. This module
therefore matches attributes. A series matches a span or a log record of the same service instance if each attribute of
the series has the same value on the span or record, on one of its ancestor spans, or on the resource. The matching
point is the first point that the series exported after the span or record. Exemplars of the trace are exact, so they
take precedence. Some metrics are found by exemplars only.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modeltrace_hub.durations import MAX_NS
from modeltrace_hub.queries.attribute_values import counter_increase, finite_number
from modeltrace_hub.queries.reader import Reader, Record, json_pointer

# Maximum time from a span or record to its point. Senders usually export once a minute or more often.
MAX_EXPORT_DELAY_NS: Final = 5 * 60 * 10**9
POINT_LOOKBACK_NS: Final = 10 * 60 * 10**9

# 300 features in 12 bins are 3,600 series.
MAX_SERIES: Final = 20_000
MAX_LOG_GROUPS: Final = 1000
MAX_SPANS: Final = 1000

# The event of a true label. The names of metrics about labels begin with it.
FEEDBACK_EVENT: Final = "ml.feedback"
# These metrics count only some predictions of a version: those with low confidence, or with a label. Their series have
# the same attributes for all predictions, so only an exemplar shows which ones were counted.
EXEMPLAR_ONLY_METRICS: Final = frozenset(("ml.predictions.low_confidence", "ml.feedback.delay", "ml.feedback.error"))

_UNIT_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span, or a group of log records with equal attributes, that a metric may have measured."""

    instance: tuple[str, str]  # name and instance ID of the service
    attributes: Mapping[str, Any]  # the attributes of itself, its ancestor spans and its resource
    first_ns: int  # when the span ended, or the first record of the group was written
    last_ns: int  # when the span ended, or the last record of the group was written
    depth: int  # the number of ancestor spans in the same service, plus 1
    span: Record | None  # the span; None for log records
    is_feedback: bool = False  # whether it records a true label


@dataclass(frozen=True, slots=True)
class _Match:
    """The first and last time at which a series measured the trace, and the measured value if it is known.

    For a batch the two times differ, because each row is measured separately.
    """

    first_ns: int
    last_ns: int
    value: float | None


def find_contributions(
    reader: Reader, trace: Record, spans: Sequence[Record], exemplars: Sequence[Record]
) -> list[Record]:
    """Return the metric points of a trace, ordered by metric. `trace` is the result of `locate_trace`.

    Each point has `interval` (the increase in its export interval), `request_value` (the value of this trace, if
    known), `bucket` (the histogram bucket of that value) and `exemplars` (the exemplars of the trace). Points without
    an increase are left out, because they count no request.
    """
    spans = spans[:MAX_SPANS]
    all_series = _candidate_series(reader, spans)
    keys = {key for series in all_series for key in series["attributes"]}
    candidates = _span_candidates(spans, keys | {series["name"] for series in all_series})
    candidates += _log_candidates(reader, trace, candidates, keys)
    matches: dict[str, _Match] = {}
    for series in all_series:
        if series["name"] not in EXEMPLAR_ONLY_METRICS and (match := _best_match(series, candidates)):
            matches[series["series_id"]] = match
    matches |= _exemplar_matches(matches, exemplars)
    if not matches:
        return []
    points = reader.fetch_all(
        "find_points",
        series_ids=list(matches),
        # The query adds the export delay to these times. The sum must fit into 64 bits.
        firsts=[min(match.first_ns, MAX_NS - MAX_EXPORT_DELAY_NS) for match in matches.values()],
        lasts=[min(match.last_ns, MAX_NS - MAX_EXPORT_DELAY_NS) for match in matches.values()],
        lookback_ns=POINT_LOOKBACK_NS,
        max_delay_ns=MAX_EXPORT_DELAY_NS,
    )
    described = [_describe_point(point, matches[point["series_id"]], exemplars) for point in points]
    return [point for point in described if point["exemplars"] or _has_increased(point)]


def _exemplar_matches(matches: Mapping[str, _Match], exemplars: Iterable[Record]) -> dict[str, _Match]:
    """Return a match for each series with exemplars; it has a value only if the value is unambiguous."""
    exact: dict[str, _Match] = {}
    for exemplar in exemplars:
        series_id, time_ns, value = exemplar["series_id"], exemplar["point_time_ns"], finite_number(exemplar["value"])
        previous = exact.get(series_id) or matches.get(series_id)
        if previous is None:
            exact[series_id] = _Match(time_ns, time_ns, value)
        else:
            is_ambiguous = series_id in exact or previous.value is None
            first, last = min(previous.first_ns, time_ns), max(previous.last_ns, time_ns)
            exact[series_id] = _Match(first, last, None if is_ambiguous else value)
    return exact


def _candidate_series(reader: Reader, spans: Sequence[Record]) -> list[Record]:
    """Return the series that the services of these spans exported during or soon after the spans."""
    if not spans:
        return []
    return reader.fetch_all(
        "find_series",
        since_ns=min(map(_end_time, spans)),
        until_ns=min(max(map(_end_time, spans)), MAX_NS - MAX_EXPORT_DELAY_NS) + MAX_EXPORT_DELAY_NS,
        instances=sorted({span["service_instance_id"] for span in spans}),
        limit=MAX_SERIES,
    )


def _span_candidates(spans: Sequence[Record], keys: set[str]) -> list[Candidate]:
    """Return a candidate per span. A span inherits the attributes of its ancestor spans in the same service."""
    by_id = {span["span_id"]: span for span in spans}
    done: dict[int, Candidate] = {}
    for span in spans:
        # Walk from span to parent. Stop at a span with a candidate, the outermost span of this service, or a cycle.
        path: dict[int, Record] = {}
        current: Record | None = span
        while current is not None and id(current) not in done and id(current) not in path:
            path[id(current)] = current
            parent = by_id.get(current["parent_span_id"])
            current = parent if parent is not None and _instance(parent) == _instance(span) else None
        above = done.get(id(current)) if current is not None else None
        for below in reversed(path.values()):
            inherited = above.attributes if above is not None else _select_keys(keys, below["resource_attributes"])
            depth = above.depth + 1 if above is not None else 1
            attributes = {**inherited, **_select_keys(keys, below["attributes"])}
            end = _end_time(below)
            above = Candidate(_instance(below), attributes, end, end, depth, below, below["name"] == "feedback")
            done[id(below)] = above
    return list(done.values())


def _select_keys(keys: set[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: attributes[key] for key in keys & attributes.keys()}


def _log_candidates(
    reader: Reader, trace: Record, span_candidates: Iterable[Candidate], keys: set[str]
) -> list[Candidate]:
    """Return a candidate per group of log records with equal attributes. The group inherits from its span."""
    if not keys:
        return []
    names = sorted(keys)
    by_id = {candidate.span["span_id"]: candidate for candidate in span_candidates if candidate.span is not None}
    groups = reader.fetch_all(
        "group_log_attributes",
        **trace,
        pointers=[json_pointer(name) for name in names],
        limit=MAX_LOG_GROUPS,
    )
    candidates = []
    for group in groups:
        above = by_id.get(group["span_id"])
        own = {
            name: orjson.loads(value) for name, value in zip(names, group["values"], strict=True) if value is not None
        }
        candidates.append(
            Candidate(
                instance=_instance(group),
                attributes={**(above.attributes if above else {}), **own},
                first_ns=group["first_ns"],
                last_ns=group["last_ns"],
                depth=above.depth + 1 if above else 1,
                span=None,
                is_feedback=group["event_name"] == FEEDBACK_EVENT,
            )
        )
    return candidates


def _best_match(series: Record, candidates: Iterable[Candidate]) -> _Match | None:
    """Return the best match of a series: a span that the metric name refers to, otherwise the outermost candidate."""
    instance, wanted, name_parts = _instance(series), series["attributes"], set(series["name"].lower().split("."))
    fitting = [
        candidate
        for candidate in candidates
        if candidate.instance == instance
        and (not candidate.is_feedback or series["name"].startswith(FEEDBACK_EVENT))
        and all(key in candidate.attributes and candidate.attributes[key] == value for key, value in wanted.items())
    ]
    if not fitting:
        return None
    named = [
        candidate for candidate in fitting if candidate.span is not None and _names_span(candidate.span, name_parts)
    ]
    # A duration measures a span. If a request was rejected before a stage, it has no span of that stage, and the stage
    # was not measured.
    if "duration" in name_parts and not named:
        return None
    depth = min(candidate.depth for candidate in named or fitting)
    best = [candidate for candidate in named or fitting if candidate.depth == depth]
    first, last = min(candidate.first_ns for candidate in best), max(candidate.last_ns for candidate in best)
    if len(named) == 1 and named[0].span is not None and "duration" in name_parts:
        unit = _UNIT_SECONDS.get(series["unit"])
        duration = named[0].span["duration_ns"]
        return _Match(first, last, duration * 1e-9 / unit if unit and duration is not None else None)
    values = {finite_number(candidate.attributes.get(series["name"])) for candidate in fitting} - {None}
    value = values.pop() if len(values) == 1 else None
    return _Match(first, last, None if value is None else float(value))


def _names_span(span: Record, name_parts: set[str]) -> bool:
    """Whether a metric name contains the name or the kind of a span.

    `ml.inference.…` contains the name of the span `inference`; `http.server.…` contains the kind SERVER.
    """
    return span["name"].lower() in name_parts or span["kind"].lower() in name_parts


def _describe_point(point: Record, match: _Match, exemplars: Iterable[Record]) -> Record:
    """Add to a point the increase in its export interval, and the contribution of this trace."""
    previous = point.pop("previous")
    if previous is not None and (previous["start_ns"] != point["start_ns"] or point["temporality"] != "CUMULATIVE"):
        previous = None
    key = point["series_id"], point["time_ns"]
    bounds = point["explicit_bounds"]
    return {
        **point,
        "interval": {
            "start_ns": previous["time_ns"] if previous else point["start_ns"],
            "end_ns": point["time_ns"],
            "value": counter_increase(point["value"], previous and previous["value"]),
            "count": counter_increase(point["count"], previous and previous["count"]),
            "sum": _difference(point["sum"], previous and previous["sum"]),
            "bucket_counts": _bucket_increases(point["bucket_counts"], previous and previous["bucket_counts"]),
        },
        "request_value": match.value,
        "bucket": bisect_left(bounds, match.value) if bounds and match.value is not None else None,
        "exemplars": [exemplar for exemplar in exemplars if (exemplar["series_id"], exemplar["point_time_ns"]) == key],
    }


def _has_increased(point: Record) -> bool:
    """Whether a counter or histogram counted something in the export interval of a point. Gauges count nothing."""
    increase = point["interval"]["value"] if point["type"] == "sum" else point["interval"]["count"]
    return bool(increase != 0)


def _difference(value: float | None, previous: float | None) -> float | None:
    return value if value is None or previous is None else value - previous


def _bucket_increases(counts: list[int] | None, previous: list[int] | None) -> list[int] | None:
    """Return the increase of each bucket. A change of the bounds or a smaller count is a reset: all counts are new."""
    if not counts or not previous or len(counts) != len(previous):
        return counts
    increases = [count - before for count, before in zip(counts, previous, strict=True)]
    return counts if min(increases) < 0 else increases


def _end_time(span: Record) -> int:
    """Return the best known end time. A span that was sent before its end has no valid end time."""
    ns: int = span["end_ns"] if span["duration_ns"] is not None else max(span["start_ns"], span["end_ns"])
    return ns or int(span["received_ns"])


def _instance(record: Record) -> tuple[str, str]:
    return record["service_name"], record["service_instance_id"]
