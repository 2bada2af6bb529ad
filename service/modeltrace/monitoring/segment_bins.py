"""The bins of numeric features in the training data, as segments of an evaluation."""

from collections.abc import Iterable

from modeltrace.evaluation.numeric_bins import NumericBins
from modeltrace.inference.schema import Feature
from modeltrace.inference.time_values import seconds_fn


def segment_bins(features: Iterable[Feature]) -> dict[str, NumericBins]:
    """Return the bins of each numeric feature by name. The prediction store does not have the numbers of private ones.

    Edges of times and durations are formatted as times and durations.
    """
    return {
        feature.name: _bins(feature, feature.reference.edges)
        for feature in features
        if feature.privacy == "plain" and feature.reference.edges is not None
    }


def _bins(feature: Feature, edges: tuple[float, ...]) -> NumericBins:
    if not feature.is_time:
        return NumericBins(edges)
    column = feature.time_column
    return NumericBins(edges, seconds_fn(column), lambda seconds: column.to_text(round(seconds * 1e6)))
