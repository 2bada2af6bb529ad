"""Evaluate the rules about error budgets, as deploy/prometheus/rules/objectives.yml.

An objective is the minimum share of good requests over 30 days. A burn rate of 1 uses up the error budget after exactly
30 days. A rule requires a burn rate over a long window (the problem is relevant) and over a short one (it has not
ended). If less than a window is stored, the part that is stored counts.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlencode

from modeltrace_hub.alerts import rules
from modeltrace_hub.alerts.rules import Condition, Rule, compare_text, make_labels
from modeltrace_hub.alerts.service_rules import REQUESTS, SLOW_SECONDS, STEP_NS
from modeltrace_hub.queries.model_parameters import DAY_NS, HOUR_NS, LOOKBACK_NS, MINUTE_NS
from modeltrace_hub.queries.reader import Reader, Record

OBJECTIVES: Final = {"availability": 0.999, "latency": 0.99}
# A service with fewer requests in `_RECENT_NS` has no meaningful share.
MIN_REQUESTS: Final = 100
_RECENT_NS: Final = 6 * HOUR_NS


class Burn(NamedTuple):
    """A burn rate, and the windows in which it must be exceeded."""

    rate: float
    long_ns: int
    short_ns: int


FAST: Final = (Burn(14.4, HOUR_NS, 5 * MINUTE_NS), Burn(6, _RECENT_NS, 30 * MINUTE_NS))
SLOW: Final = (Burn(3, DAY_NS, 2 * HOUR_NS), Burn(1, 3 * DAY_NS, _RECENT_NS))


def objective_conditions(reader: Reader, now_ns: int) -> Iterator[Condition]:
    """Yield the conditions of all services and objectives."""
    since = {"since_ns": now_ns - _RECENT_NS, "until_ns": now_ns}
    for row in reader.fetch_all("list_instances_by_metric", names=[REQUESTS], **since):
        service = row["service_name"]
        recent = _read(reader, service, now_ns, _RECENT_NS)
        if sum(step["requests"] for step in recent) < MIN_REQUESTS:
            continue
        yield from _burning(rules.BUDGET_BURNS_FAST, FAST, service, recent, _RECENT_NS)
        # Days are read only if a short window exceeds its burn rate, because they have many points.
        if any(
            _bad_share(recent, _RECENT_NS, burn.short_ns, objective) > burn.rate * (1 - OBJECTIVES[objective])
            for burn in SLOW
            for objective in OBJECTIVES
        ):
            days_ns = SLOW[-1].long_ns
            days = _read(reader, service, now_ns, days_ns)
            yield from _burning(rules.BUDGET_BURNS_SLOWLY, SLOW, service, days, days_ns)


def _read(reader: Reader, service: str, now_ns: int, length_ns: int) -> list[Record]:
    return reader.fetch_all(
        "sum_bad_requests",
        counters=[REQUESTS],
        counted_service=service,
        slow_seconds=SLOW_SECONDS,
        step_ns=STEP_NS,
        since_ns=now_ns - length_ns,
        until_ns=now_ns,
        lookback_ns=LOOKBACK_NS,
    )


def _burning(
    rule: Rule, burns: tuple[Burn, ...], service: str, steps: list[Record], length_ns: int
) -> Iterator[Condition]:
    for objective, share in OBJECTIVES.items():
        for burn in burns:
            threshold = burn.rate * (1 - share)
            value = _bad_share(steps, length_ns, burn.long_ns, objective)
            if min(value, _bad_share(steps, length_ns, burn.short_ns, objective)) > threshold:
                bad = "failed" if objective == "availability" else "took longer than 300 ms"
                hours = burn.long_ns // HOUR_NS
                summary = f"The share of requests to {service} that {bad} within {hours} h uses up the error budget"
                path = f"traces?{urlencode({'service': service, 'since': '1h'})}"
                text = compare_text(summary, value, threshold)
                yield Condition(rule.name, make_labels(job=service, slo=objective), value, threshold, text, path)
                break


def _bad_share(steps: list[Record], length_ns: int, window_ns: int, objective: str) -> float:
    """Return the share of bad requests in the last part of the steps of `length_ns`; 0 without requests."""
    first = (length_ns - window_ns) // STEP_NS
    good_and_bad, bad = ("requests", "failed") if objective == "availability" else ("timed", "slow")
    window = [step for step in steps if step["step"] >= first]
    total = sum(step[good_and_bad] or 0 for step in window)
    return sum(step[bad] or 0 for step in window) / total if total else 0.0
