"""Evaluate the predictions of each value of a tag or a feature separately."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from modeltrace.evaluation.groups import GroupError, find_groups
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.store.selection import Selection
from modeltrace.store.store import Store


def evaluate_segments(
    evaluate: Callable[[Selection], list[ModelMetrics]],
    store: Store,
    selection: Selection,
    name: str,
    bins: Mapping[str, NumericBins] = MappingProxyType({}),
) -> list[ModelMetrics]:
    """Return the metrics of each value, sorted by value, and of predictions without a value first.

    Args:
        evaluate: returns the metrics of a selection.
        store: the store with the predictions.
        selection: the predictions to evaluate.
        name: the name of the tag, or of the feature if no selected prediction has such a tag.
        bins: the bins of numeric features, which are evaluated in place of values.

    Raises:
        GroupError: no prediction has the tag or the feature, or it has too many values to evaluate them separately.
        StoreError: the store cannot be read.
    """
    groups = find_groups(store, selection, name, bins)
    if groups is None:
        if not store.counts(selection).predictions:
            return []
        raise GroupError(f"no selected prediction has a tag or a recorded feature {name}")
    conditions = [(None, groups.column.is_(None)), *((value, groups.column == value) for value in groups.values)]
    return [
        replace(metrics, segment={name: groups.to_text(value)})
        for value, condition in conditions
        for metrics in evaluate(selection._replace(more=(*selection.more, condition)))
    ]
