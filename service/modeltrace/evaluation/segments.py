"""Evaluate the predictions of each value of a tag separately."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from modeltrace.errors import ModeltraceError
from modeltrace.evaluation.metrics import ModelMetrics
from modeltrace.store.selection import Selection, tag_values
from modeltrace.store.store import Store

# Each segment needs its own queries. A tag with more values is not a segment, but an ID.
MAX_SEGMENTS: Final = 100


class TooManySegmentsError(ModeltraceError):
    """A tag has more values than can be evaluated separately."""


def evaluate_segments(
    evaluate: Callable[[Selection], list[ModelMetrics]], store: Store, selection: Selection, name: str
) -> list[ModelMetrics]:
    """Return the metrics of each value of a tag, sorted by value, and of predictions without the tag first.

    Args:
        evaluate: returns the metrics of a selection.
        store: the store with the predictions.
        selection: the predictions to evaluate.
        name: the name of the tag.

    Raises:
        TooManySegmentsError: the tag has more than `MAX_SEGMENTS` values.
        StoreError: the store cannot be read.
    """
    values = sorted(value or "" for (value,) in store.fetch_all(tag_values(name, selection)))
    if len(values) > MAX_SEGMENTS:
        raise TooManySegmentsError(
            f"the tag {name} has {len(values):,} values in this selection; {MAX_SEGMENTS} can be evaluated "
            "separately: select fewer with --since, --until or --tag"
        )
    return [
        replace(metrics, segment={name: value or None})
        for value in values
        for metrics in evaluate(selection._replace(tags=(*selection.tags, (name, value))))
    ]
