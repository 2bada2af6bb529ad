"""Convert the filters of a comparison to SQL conditions that define its two sets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from modeltrace_hub.queries.conditions import Conditions, sql_conditions
from modeltrace_hub.queries.explain_parameters import Comparison, SetFilter
from modeltrace_hub.queries.filter_fields import FieldSet, FilterField
from modeltrace_hub.queries.list_fields import PREDICTION_FIELDS
from modeltrace_hub.queries.list_parameters import TraceFilter
from modeltrace_hub.queries.model_parameters import PredictionFilter
from modeltrace_hub.queries.model_schema import OUTPUT, read_schema
from modeltrace_hub.queries.predictions import bin_condition
from modeltrace_hub.queries.reader import Reader, json_pointer
from modeltrace_hub.queries.trace_conditions import span_conditions, trace_conditions
from modeltrace_hub.sql_files import MAX_CLOCK_SKEW_NS

_WITH_SPAN: Final = "trace_id IN (SELECT trace_id FROM spans WHERE received_ns >= $first_received_ns AND {conditions})"
_OUTPUT: Final = "coalesce(attributes ->> '/ml.prediction.label', attributes ->> '/ml.prediction.value')"
# The fields of the compared predictions, which have their true label.
_FIELDS: Final = FieldSet(
    {**PREDICTION_FIELDS.fields, "true_label": FilterField("true label", "true_label")},
    PREDICTION_FIELDS.prefixes,
    PREDICTION_FIELDS.prefixed,
)
_OUTCOMES: Final = {
    "incorrect": f"true_label <> {_OUTPUT}",
    "correct": f"true_label = {_OUTPUT}",
    "labelled": "true_label IS NOT NULL",
}
# The attribute that a field is about.
_ATTRIBUTES: Final = {
    "model": "ml.model.name",
    "version": "ml.model.version",
    "id": "ml.prediction.external_id",
    "label": "ml.prediction.label",
    "output": "ml.prediction.label",
    "confidence": "ml.prediction.confidence",
    "value": "ml.prediction.value",
    "synthetic": "modeltrace.synthetic",
    **dict.fromkeys(("true_label", "true_value", "error", "correct"), "ml.prediction.true_label"),
}


@dataclass(frozen=True, slots=True)
class Sets:
    """Two sets in SQL.

    `conditions` apply to both sets, `selected` and `against` to one. `defining_keys` are kind and key of the properties
    that `selected` and `against` test: these differ by definition. `model` and `version` are those that the filters of
    both sets name, or None.
    """

    conditions: list[str]
    selected: str
    against: str
    values: dict[str, Any]
    defining_keys: frozenset[tuple[str, str]]
    model: str | None = None
    version: str | None = None


def define_sets(reader: Reader, comparison: Comparison) -> Sets:
    """Return the SQL of a comparison."""
    both, selection, against = comparison.population, comparison.selection, comparison.against
    model, version = (both.model, both.version) if isinstance(both, PredictionFilter) else (None, None)
    conditions, values = set_conditions(reader, both, "both", model, version)
    selected, selected_values = set_conditions(reader, selection, "selected", model, version)
    other: list[str] = []
    if against is not None:
        other, other_values = set_conditions(reader, against, "against", model, version)
        values |= other_values
    values |= selected_values
    if isinstance(both, PredictionFilter):
        values |= both.time_range
    return Sets(
        conditions,
        " AND ".join(["true", *selected]),
        " AND ".join(["true", *other]),
        values,
        frozenset(key for filters in (selection, against) if filters is not None for key in _defining_keys(filters)),
        model,
        version,
    )


def set_conditions(
    reader: Reader, filters: SetFilter, prefix: str, model: str | None = None, version: str | None = None
) -> Conditions:
    """Return the conditions of one set and their parameters. The names of the parameters begin with `prefix`.

    `model` and `version` are those of both sets. They select the bins of the training data if the filters of this set
    name no model or version.
    """
    if isinstance(filters, TraceFilter):
        conditions, values = trace_conditions(reader, filters)
        of_span, span_values = span_conditions(reader, filters)
        if of_span:
            conditions.append(_WITH_SPAN.format(conditions=" AND ".join(of_span)))
            values |= {**span_values, "first_received_ns": filters.time_range["since_ns"] - MAX_CLOCK_SKEW_NS}
    else:
        conditions, values = _prediction_conditions(reader, filters, filters.model or model, filters.version or version)
    renamed = [re.sub(r"\$(\w+)", rf"${prefix}_\1", condition) for condition in conditions]
    return renamed, {f"{prefix}_{name}": value for name, value in values.items()}


def _prediction_conditions(
    reader: Reader, filters: PredictionFilter, model: str | None, version: str | None
) -> Conditions:
    conditions, values = sql_conditions(reader, filters.bind(_FIELDS))
    for name, condition in (
        ("true_label", "true_label = $true_label"),
        ("since", "effective_ns > $since"),
        ("until", "effective_ns <= $until"),
    ):
        if (value := getattr(filters, name)) is not None:
            conditions.append(condition)
            values[name] = value
    if filters.outcome is not None:
        conditions.append(_OUTCOMES[filters.outcome])
    if filters.bin is not None:
        schema = read_schema(reader, model, version) if model else {}
        condition, bin_values = bin_condition(filters.bin, schema.get(filters.feature or OUTPUT))
        key = json_pointer("ml.prediction.inputs") + json_pointer(filters.feature) if filters.feature else None
        conditions.append(condition)
        values |= {**bin_values, "value_pointer": key or json_pointer("ml.prediction.value")}
    return conditions, values


def _defining_keys(filters: SetFilter) -> Iterator[tuple[str, str]]:
    """Yield kind and key of the properties that filters are about."""
    for condition in filters.conditions:
        if condition.nested is not None:
            yield "feature", condition.nested
        elif condition.field is None:
            yield "attribute", condition.attribute
            yield "resource", condition.attribute
        elif condition.name == "service":
            yield "resource", "service.name"
        elif condition.name in _ATTRIBUTES:
            yield "attribute", _ATTRIBUTES[condition.name]
    if isinstance(filters, TraceFilter):
        return
    if filters.true_label is not None:
        yield "attribute", "ml.prediction.true_label"
    if filters.feature is not None:
        yield "feature", filters.feature
    elif filters.bin is not None:
        yield "attribute", "ml.prediction.value"
