"""Rate, errors and duration of each service, its instances and versions, and the calls between services."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from modeltrace_hub.queries.heatmap import time_step
from modeltrace_hub.queries.list_parameters import TimeRangeFilter
from modeltrace_hub.queries.model_parameters import MINUTE_NS
from modeltrace_hub.queries.reader import Reader, Record

# Without a start, the figures cover the hour up to the newest span.
COVERED_NS: Final = 3600 * 10**9
# Of more spans, the calls of a random part of the traces are counted.
MAX_EXAMINED_SPANS: Final = 200_000
MAX_CALLS: Final = 200


class ServiceFilter(TimeRangeFilter):
    """Select the range of time, and the view of the page."""

    view: Literal["table", "map"] = "table"


@dataclass(frozen=True, slots=True)
class Range:
    """Steps of a range of time. The end is exclusive."""

    since_ns: int
    step_ns: int
    steps: int
    span_count: int

    @property
    def until_ns(self) -> int:
        """The end, exclusive."""
        return self.since_ns + self.steps * self.step_ns

    def seconds_since(self, first_ns: int) -> float:
        """Return the length of the part of the range from the first span of a service, in seconds; at least a minute.

        Rates are divided by it. A service with spans before the range counts from the start of the range.
        """
        return max(self.until_ns - max(self.since_ns, first_ns), MINUTE_NS) / 1e9


def read_range(reader: Reader, filters: TimeRangeFilter) -> Range | None:
    """Return the range of time that has the filters' spans; None if there are none."""
    newest_ns = reader.fetch_one("get_newest_span_time", **filters.time_range)["start_ns"]
    if newest_ns is None:
        return None
    since_ns = max(newest_ns - COVERED_NS, 0) if filters.since is None else filters.since
    step_ns = time_step(newest_ns - since_ns)
    since_ns = since_ns // step_ns * step_ns
    steps = (newest_ns - since_ns) // step_ns + 1
    spans = reader.fetch_one("count_spans", since_ns=since_ns, until_ns=since_ns + steps * step_ns)
    return Range(since_ns, step_ns, steps, spans["span_count"])


def list_service_requests(reader: Reader, time: Range) -> list[Record]:
    """Return the services by name.

    Returns:
        A record of each service, with these keys:

        - `service_name`.
        - `request_count`, `error_count`, `per_second` since the first span of the service, `error_share`, and `p50_ns`,
          `p95_ns`, `p99_ns` of durations; None without requests. Requests are SERVER and CONSUMER spans and
          spans without a parent; of a service that has none of these, all spans.
        - `steps`: `request_count`, `error_count` and `p95_ns` of each step.
        - `instances`: `service_instance_id`, `version`, `request_count`, `error_count`, `last_seen_ns`.
    """
    parameters = {"since_ns": time.since_ns, "until_ns": time.until_ns}
    services = {name: _empty(name, time) for name in reader.list_service_names()}
    first_ns = _first_spans(reader)
    for row in reader.fetch_all("list_service_requests", **parameters, step_ns=time.step_ns):
        service = services.setdefault(row["service_name"], _empty(row["service_name"], time))
        p50, p95, p99 = row["durations_ns"] or (None, None, None)
        counts = {"request_count": row["request_count"], "error_count": row["error_count"], "p95_ns": p95}
        if row["step"] is not None:
            service["steps"][row["step"]] = counts
            continue
        service |= {
            **counts,
            "per_second": row["request_count"] / time.seconds_since(first_ns[row["service_name"]]),
            "error_share": row["error_count"] / row["request_count"],
            "p50_ns": p50,
            "p99_ns": p99,
        }
    for row in reader.fetch_all("list_service_instances", **parameters):
        services[row.pop("service_name")]["instances"].append(row)
    return [services[name] for name in sorted(services)]


def list_service_calls(reader: Reader, time: Range) -> tuple[list[Record], float]:
    """Return the calls between services, the most frequent first, and the share of the traces that were examined.

    Each has `caller`, `called`, `call_count` and `error_count`, both estimated for all traces, `per_second`,
    `error_share` and `p95_ns` of the called spans.
    """
    parameters = {"since_ns": time.since_ns, "until_ns": time.until_ns}
    every = max(-(-time.span_count // MAX_EXAMINED_SPANS), 1)
    calls = reader.fetch_all("list_service_calls", **parameters, every=every, limit=MAX_CALLS)
    first_ns = _first_spans(reader) if calls else {}
    for call in calls:
        call["error_share"] = call["error_count"] / call["call_count"]
        call["call_count"] *= every
        call["error_count"] *= every
        both_ns = max(first_ns[call["caller"]], first_ns[call["called"]])
        call["per_second"] = call["call_count"] / time.seconds_since(both_ns)
    return calls, 1 / every


def layer_services(names: Iterable[str], calls: Iterable[Record]) -> list[list[str]]:
    """Return the services in layers: each caller is above the services that it calls, except within a cycle."""
    callers: dict[str, set[str]] = {name: set() for name in names}
    for call in calls:
        callers[call["called"]].add(call["caller"])
    depths: dict[str, int] = {}
    while waiting := sorted(callers.keys() - depths.keys()):
        # A service whose callers all have a depth; within a cycle, one with the fewest callers that have no depth yet.
        name = min(waiting, key=lambda name: len(callers[name] - depths.keys()))
        depths[name] = max((depths[caller] + 1 for caller in callers[name] if caller in depths), default=0)
    return [sorted(name for name in depths if depths[name] == depth) for depth in sorted(set(depths.values()))]


def _first_spans(reader: Reader) -> dict[str, int]:
    """Return the start of the first stored span of each service."""
    return {row["service_name"]: row["first_ns"] for row in reader.fetch_all("list_first_spans")}


def _empty(name: str, time: Range) -> Record:
    unknown = dict.fromkeys(("per_second", "error_share", "p50_ns", "p95_ns", "p99_ns"))
    counts: Record = {"request_count": 0, "error_count": 0, "p95_ns": None}
    return {
        "service_name": name,
        **counts,
        **unknown,
        "steps": [dict(counts) for _ in range(time.steps)],
        "instances": [],
    }
