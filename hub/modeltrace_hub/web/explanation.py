"""Describe an explanation for the pages: texts of the properties, and links to the traces that have them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.explain import MAX_TEXT
from modeltrace_hub.queries.list_fields import TRACE_FIELDS
from modeltrace_hub.queries.reader import Record
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.filter_form import Parameters, attribute_name, query_with_condition

_KINDS: Final = {
    "feature": "feature",
    "violation": "schema violation",
    "attribute": "attribute",
    "resource": "resource",
    "span": "span of",
    "failed span": "failed span of",
    "duration": "duration of",
}
_LINKED_KINDS: Final = {"attribute", "resource"}

Query = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Property:
    """One property: its kind, key, value, and the query of the list of traces with it, if a filter can select them."""

    kind: str
    key: str
    value: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. Shares are in percent, rounded for the bars."""

    property: Property
    same_items: Sequence[Property]
    record: Record
    selected_percent: float
    other_percent: float
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The rows that are significant, the others, and how the items ended, each as the page shows them."""

    record: Record
    noun: str
    rows: Sequence[Row]
    outcomes: Sequence[Row]
    chance: Sequence[Row]

    @property
    def is_empty(self) -> bool:
        """Whether one of the sets has no items."""
        return not (self.record["selected"]["count"] and self.record["other"]["count"])


def describe_explanation(record: Record, parameters: Parameters | None = None) -> Explanation:
    """Return the texts of an explanation.

    Args:
        record: the result of `modeltrace_hub.queries.explain.explain`.
        parameters: those of the list of selected traces; None without such a list.
    """
    query = None if parameters is None else query_with_condition(parameters)
    described = {name: [_describe_row(row, query) for row in record[name]] for name in ("properties", "outcomes")}
    significant = {name: [row for row in rows if row.record["significant"]] for name, rows in described.items()}
    return Explanation(
        record=record,
        noun=record["of"].removesuffix("s"),
        rows=significant["properties"],
        outcomes=significant["outcomes"],
        chance=[row for rows in described.values() for row in rows if not row.record["significant"]],
    )


def _describe_row(row: Record, query: Query | None) -> Row:
    return Row(
        property=_describe_property(row, query),
        same_items=[_describe_property(item, query) for item in row["same_items"]],
        record=row,
        selected_percent=round(100 * row["selected_share"], 1),
        other_percent=round(100 * row["other_share"], 1),
        difference=_points(row["difference"]),
        interval=f"{_points(row['difference_low'])} to {_points(row['difference_high'])}",
    )


def _describe_property(item: Record, query: Query | None) -> Property:
    kind, value = item["kind"], item["value"]
    link = None
    if query is not None and kind in _LINKED_KINDS and value is not None and len(value) < MAX_TEXT:
        link = query((attribute_name(TRACE_FIELDS, item["key"]), value))
    return Property(_KINDS[kind], item["key"] or "(no name)", _value_text(item), link)


def _value_text(item: Record) -> str:
    if not item["is_bin"]:
        if item["kind"] == "violation":
            return fmt.violation_text(item["value"])
        return "missing" if item["value"] is None else item["value"] or "(empty)"
    low, high = item["low"], item["high"]
    if item["kind"] == "duration":
        return f"over {fmt.duration(low)}"
    if low is None or high is None:
        return f"up to {fmt.number(high)}" if low is None and high is not None else f"over {_number(low)}"
    return f"over {fmt.number(low)}, up to {fmt.number(high)}"


def _number(value: Any) -> str:  # noqa: ANN401  None if the bin has no bounds
    return "any number" if value is None else fmt.number(value)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
