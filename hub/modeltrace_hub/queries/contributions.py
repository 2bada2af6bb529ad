"""Which metric points a trace contributed to.

Only few requests leave an exemplar: a reservoir keeps one a bucket and export interval. So the points are found by what
the series says. A series matches a span or a log record of the same service instance when each of its attributes has
the same value there, on its span, on a span around it, or on the resource; the point is the first one exported after.
Exemplars are exact where there are any, and come first; some metrics are told by them alone.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from modeltrace_hub.queries.filters import MAX_NS
from modeltrace_hub.queries.queries import Reader, Record, pointer
from modeltrace_hub.queries.values import added, finite

# Senders export every minute or more often; what comes later than this is another request's.
AFTER_NS: Final = 5 * 60 * 10**9
BEFORE_NS: Final = 10 * 60 * 10**9

# 300 features in 12 bins are 3,600; a series that is left out leaves a point unseen.
MOST_SERIES: Final = 20_000
MOST_RECORDS: Final = 1000
MOST_SPANS: Final = 1000

# The event of a true label; metrics about labels have names that begin so.
LABEL: Final = "ml.feedback"
# Their series have no more attributes than every prediction of that version, but few predictions are measured by them:
# those with an answer of low confidence, or with a label. Only an exemplar tells which.
BY_EXEMPLAR_ALONE: Final = frozenset(("ml.predictions.low_confidence", "ml.feedback.delay", "ml.feedback.error"))

_SECONDS_IN: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Witness:
    """A span, or log records that say the same, that may have been measured: what is known there, and when it was over.

    `depth` counts the spans around it; `span` is None for records, of which a batch writes many. `label` says that it
    tells of a true label: what it says of the prediction was measured when that was made, in another trace.
    """

    instance: tuple[str, str]
    attributes: Mapping[str, Any]
    first_ns: int
    last_ns: int
    depth: int
    span: Record | None
    label: bool = False


@dataclass(frozen=True, slots=True)
class _Match:
    """When a trace was measured by a series, first and last (a batch is measured row by row), and the value if one."""

    first_ns: int
    last_ns: int
    value: float | None


def contributions(reader: Reader, trace_id: str, spans: Sequence[Record], exemplars: Sequence[Record]) -> list[Record]:
    """The points, ordered by metric, each with `interval`, `request_value`, `bucket` and the trace's `exemplars`."""
    spans = spans[:MOST_SPANS]
    series = _series(reader, spans)
    keys = {key for one in series for key in one["attributes"]}
    witnesses = _span_witnesses(spans, keys | {one["name"] for one in series})
    witnesses += _record_witnesses(reader, trace_id, witnesses, keys)
    asked: dict[str, _Match] = {}
    for one in series:
        if one["name"] not in BY_EXEMPLAR_ALONE and (match := _best(one, witnesses)):
            asked[one["series_id"]] = match
    asked |= _exact(asked, exemplars)
    if not asked:
        return []
    points = reader.records(
        "points_after",
        series_ids=list(asked),
        # What is added to a time must stay a 64-bit integer.
        firsts=[min(match.first_ns, MAX_NS - AFTER_NS) for match in asked.values()],
        lasts=[min(match.last_ns, MAX_NS - AFTER_NS) for match in asked.values()],
        before_ns=BEFORE_NS,
        after_ns=AFTER_NS,
    )
    return [_describe(point, asked[point["series_id"]], exemplars) for point in points]


def _exact(found: Mapping[str, _Match], exemplars: Iterable[Record]) -> dict[str, _Match]:
    """What exemplars say of their series: which points it was, and the value where the trace has only one."""
    exact: dict[str, _Match] = {}
    for exemplar in exemplars:
        series_id, moment, value = exemplar["series_id"], exemplar["point_time_ns"], finite(exemplar["value"])
        before = exact.get(series_id) or found.get(series_id)
        if before is None:
            exact[series_id] = _Match(moment, moment, value)
        else:
            several = series_id in exact or before.value is None
            first, last = min(before.first_ns, moment), max(before.last_ns, moment)
            exact[series_id] = _Match(first, last, None if several else value)
    return exact


def _series(reader: Reader, spans: Sequence[Record]) -> list[Record]:
    """The series that the services of these spans exported during and soon after them."""
    if not spans:
        return []
    return reader.records(
        "series_between",
        from_ns=min(map(_over, spans)),
        until_ns=min(max(map(_over, spans)), MAX_NS - AFTER_NS) + AFTER_NS,
        instances=sorted({span["service_instance_id"] for span in spans}),
        limit=MOST_SERIES,
    )


def _span_witnesses(spans: Sequence[Record], keys: set[str]) -> list[Witness]:
    """Every span, with what it and the spans of the same service around it say under these keys."""
    by_id = {span["span_id"]: span for span in spans}
    done: dict[int, Witness] = {}
    for span in spans:
        # Upwards to a span that is done, to the outermost of this service, or once around a circle of parents.
        path: dict[int, Record] = {}
        above: Record | None = span
        while above is not None and id(above) not in done and id(above) not in path:
            path[id(above)] = above
            parent = by_id.get(above["parent_span_id"])
            above = parent if parent is not None and _instance(parent) == _instance(span) else None
        around = done.get(id(above)) if above is not None else None
        for one in reversed(path.values()):
            known = around.attributes if around is not None else _under(keys, one["resource_attributes"])
            depth = around.depth + 1 if around is not None else 1
            said = {**known, **_under(keys, one["attributes"])}
            over = _over(one)
            around = Witness(_instance(one), said, over, over, depth, one, one["name"] == "feedback")
            done[id(one)] = around
    return list(done.values())


def _under(keys: set[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is said under these keys."""
    return {key: attributes[key] for key in keys & attributes.keys()}


def _record_witnesses(reader: Reader, trace_id: str, spans: Iterable[Witness], keys: set[str]) -> list[Witness]:
    """The log records by what distinguishes them under these keys, each with what its span knows."""
    if not keys:
        return []
    names = sorted(keys)
    by_id = {witness.span["span_id"]: witness for witness in spans if witness.span is not None}
    found = reader.records(
        "record_attributes", trace_id=trace_id, pointers=[pointer(name) for name in names], limit=MOST_RECORDS
    )
    witnesses = []
    for record in found:
        around = by_id.get(record["span_id"])
        own = {
            name: orjson.loads(value) for name, value in zip(names, record["found"], strict=True) if value is not None
        }
        known = {**(around.attributes if around else {}), **own}
        depth = around.depth + 1 if around else 1
        label = record["event_name"] == LABEL
        witnesses.append(Witness(_instance(record), known, record["first_ns"], record["last_ns"], depth, None, label))
    return witnesses


def _best(series: Record, witnesses: Iterable[Witness]) -> _Match | None:
    """The span or record that the series measured: one that its name speaks of, else the outermost that fits."""
    instance, wanted, parts = _instance(series), series["attributes"], set(series["name"].lower().split("."))
    fitting = [
        witness
        for witness in witnesses
        if witness.instance == instance
        and (not witness.label or series["name"].startswith(LABEL))
        and all(key in witness.attributes and witness.attributes[key] == value for key, value in wanted.items())
    ]
    if not fitting:
        return None
    named = [witness for witness in fitting if witness.span is not None and _is_named(witness.span, parts)]
    # A duration is that of a span: a request refused before a stage, so without its span, took no part in it.
    if "duration" in parts and not named:
        return None
    depth = min(witness.depth for witness in named or fitting)
    best = [witness for witness in named or fitting if witness.depth == depth]
    first, last = min(witness.first_ns for witness in best), max(witness.last_ns for witness in best)
    if len(named) == 1 and named[0].span is not None and "duration" in parts:
        in_seconds = _SECONDS_IN.get(series["unit"])
        length = named[0].span["duration_ns"]
        value = length * 1e-9 / in_seconds if in_seconds and length is not None else None
        return _Match(first, last, value)
    measured = {value for witness in fitting if (value := finite(witness.attributes.get(series["name"]))) is not None}
    return _Match(first, last, float(measured.pop()) if len(measured) == 1 else None)


def _is_named(span: Record, parts: set[str]) -> bool:
    """Whether a metric's name speaks of this span: `http.server.…` of a SERVER one, `ml.inference.…` of `inference`."""
    return span["name"].lower() in parts or span["kind"].lower() in parts


def _describe(point: Record, match: _Match, exemplars: Iterable[Record]) -> Record:
    """A point with what its interval added and this trace's part in it."""
    previous = point.pop("previous")
    if previous is not None and (previous["start_ns"] != point["start_ns"] or point["temporality"] != "CUMULATIVE"):
        previous = None
    own = [
        one for one in exemplars if one["series_id"] == point["series_id"] and one["point_time_ns"] == point["time_ns"]
    ]
    bounds = point["explicit_bounds"]
    return {
        **point,
        "interval": {
            "start_ns": previous["time_ns"] if previous else point["start_ns"],
            "end_ns": point["time_ns"],
            "value": added(point["value"], previous and previous["value"]),
            "count": added(point["count"], previous and previous["count"]),
            "sum": _less(point["sum"], previous and previous["sum"]),
            "bucket_counts": _added_each(point["bucket_counts"], previous and previous["bucket_counts"]),
        },
        "request_value": match.value,
        "bucket": bisect_left(bounds, match.value) if bounds and match.value is not None else None,
        "exemplars": own,
    }


def _less(now: float | None, before: float | None) -> float | None:
    return now if now is None or before is None else now - before


def _added_each(now: list[int] | None, before: list[int] | None) -> list[int] | None:
    if not now or not before or len(now) != len(before) or any(a < b for a, b in zip(now, before, strict=True)):
        return now
    return [a - b for a, b in zip(now, before, strict=True)]


def _over(span: Record) -> int:
    """When a span was over, as far as that is known: a span that was sent before its end has none."""
    ns: int = span["end_ns"] if span["duration_ns"] is not None else max(span["start_ns"], span["end_ns"])
    return ns or int(span["received_ns"])


def _instance(record: Record) -> tuple[str, str]:
    return record["service_name"], record["service_instance_id"]
