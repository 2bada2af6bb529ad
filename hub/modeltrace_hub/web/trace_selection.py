"""The heatmap of `/traces`, the selection in it, and what is over-represented among the selected traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.explain import explain
from modeltrace_hub.queries.explain_parameters import (
    AGAINST_PREFIX,
    SELECT_PREFIX,
    Comparison,
    ExplainFilter,
    split_comparison,
)
from modeltrace_hub.queries.heatmap import read_heatmap
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.reader import Reader
from modeltrace_hub.web import format as fmt
from modeltrace_hub.web.explanation import describe_explanation
from modeltrace_hub.web.filter_form import Parameters, parse_filters, query_without
from modeltrace_hub.web.heatmap_chart import draw_heatmap

MAX_PROPERTIES: Final = 12
_NARROWEST: Final = {"since": max, "until": min, "min_duration": max, "max_duration": min}


@dataclass(frozen=True, slots=True)
class TraceSelection:
    """The filters of the list, of the selection and of the traces that it is compared with."""

    filters: TraceFilter
    selection: TraceFilter | None
    against: TraceFilter | None
    problem: str | None

    @property
    def listed(self) -> TraceFilter:
        """The filters of the list, combined with those of the selection if there is one."""
        if self.selection is None:
            return self.filters
        values = self.filters.model_dump(exclude_unset=True)
        for name, value in self.selection.model_dump(exclude_unset=True).items():
            if name in _NARROWEST and values.get(name) is not None:
                values[name] = _NARROWEST[name](values[name], value)
            elif name == "filter" and values.get(name):
                values[name] = f"{values[name]} {value}"
            elif isinstance(value, list):
                values[name] = [*values.get(name, []), *value]
            else:
                values[name] = value
        # The values are validated, so times are not parsed again.
        return TraceFilter.model_construct(**values)


def read_selection(parameters: Parameters) -> TraceSelection:
    """Return the filters that the parameters of the page contain, without invalid ones."""
    parts = split_comparison(parameters)
    parsed = {prefix: parse_filters(TraceFilter, list(pairs)) for prefix, pairs in parts.items()}
    problems = [f"{prefix}…: {problem}" if prefix else problem for prefix, (_, problem) in parsed.items() if problem]
    selection, against = (
        filters if filters.model_fields_set else None for filters, _ in (parsed[SELECT_PREFIX], parsed[AGAINST_PREFIX])
    )
    return TraceSelection(parsed[""][0], selection, against, " ".join(problems) or None)


def selection_context(reader: Reader, traces: TraceSelection, parameters: Parameters) -> dict[str, Any]:
    """Return the variables of the templates: the heatmap, the explanation, and the text of the selection."""
    unselected = [pair for pair in parameters if not pair[0].startswith((SELECT_PREFIX, AGAINST_PREFIX))]
    unselected = [pair for pair in unselected if pair[0] != "cursor"]
    heatmap = read_heatmap(reader, traces.filters)
    chart = None if heatmap is None else draw_heatmap(heatmap, traces.selection, query_without(unselected))
    explanation = None
    if traces.selection is not None:
        comparison = Comparison(traces.filters, traces.selection, traces.against)
        record = explain(reader, ExplainFilter(rows=MAX_PROPERTIES), comparison)
        explanation = describe_explanation(record, [pair for pair in parameters if pair[0] != "cursor"])
    return {
        "heatmap": heatmap,
        "heatmap_chart": chart,
        "explanation": explanation,
        "selection": traces.selection and ", ".join(_describe(traces.selection)),
        "unselected": query_without(unselected),
    }


def _describe(selection: TraceFilter) -> Sequence[str]:
    """Return the text of each filter of a selection."""
    since, until, shortest, longest = selection.since, selection.until, selection.min_duration, selection.max_duration
    texts = [
        since is not None and f"started from {fmt.clock_text(since)} UTC",
        until is not None and f"until {fmt.clock_text(until)} UTC",
        shortest is not None and f"lasted {fmt.duration(shortest)} or longer",
        longest is not None and f"up to {fmt.duration(longest)}",
        selection.filter,
        selection.error is not None and ("failed" if selection.error else "without an error"),
        selection.service is not None and f"service {selection.service}",
        selection.name is not None and f"name contains {selection.name}",
        *(f"{key} = {value}" for key, value in selection.attributes),
    ]
    return [text for text in texts if text]
