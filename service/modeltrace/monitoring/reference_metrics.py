"""Gauges that describe the training data of a model, and the critical values of its drift statistics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from modeltrace.inference.model import Model
from modeltrace.inference.schema import MISSING, Feature, OutputReference, Reference
from modeltrace.monitoring import drift
from modeltrace.monitoring.bins import FeatureBins
from modeltrace.telemetry.metrics.features import REMEMBERED_ROWS
from modeltrace.telemetry.metrics.instruments import (
    CONFIDENCE_THRESHOLD,
    DRIFT_CRITICAL_VALUE,
    DRIFT_MIN_EFFECT,
    FEATURE_REFERENCE,
    FEATURE_REFERENCE_DEVIATION,
    FEATURE_REFERENCE_MEAN,
    PREDICTION_REFERENCE,
    REFERENCE_SIZE,
    REPEATED_LIMIT,
)
from modeltrace.telemetry.metrics.model_catalog import ReferenceData
from modeltrace.telemetry.names import (
    ML_DRIFT_STATISTIC,
    ML_FEATURE_BIN,
    ML_FEATURE_NAME,
    ML_PREDICTION_BIN,
    ML_PREDICTION_LABEL,
)

# The key of the model's outputs in place of a feature's name. No feature has an empty name.
OUTPUTS = ""
# A change of mean relative to a smaller scale could overflow, so it is not computed.
MIN_SCALE = 2.0**-800


def reference_metrics(model: Model) -> ReferenceData:
    """Return the bins of all features, and the data points of each gauge: training data and drift limits."""
    bins = FeatureBins(model.schema)
    references = {feature.name: feature.reference for feature in model.schema.features}
    outputs = model.output_reference
    sizes: dict[str, Reference] = {**references, **({OUTPUTS: outputs} if outputs else {})}
    deviations = [(name, references[name].deviation) for name in bins.numeric_names]
    output_key = ML_PREDICTION_BIN if outputs and outputs.edges is not None else ML_PREDICTION_LABEL
    threshold = model.confidence_threshold
    repeated = None
    if model.duplicate_probability is not None:
        repeated = drift.max_repeated_share(model.duplicate_probability, 2 * REMEMBERED_ROWS)
    return ReferenceData(
        bins,
        {
            FEATURE_REFERENCE: [
                (references[name].shares[bin_name], _attributes(name, bin_name)) for name, bin_name in bins.bin_names
            ],
            FEATURE_REFERENCE_MEAN: [(references[name].mean or 0.0, _attributes(name)) for name in bins.numeric_names],
            REFERENCE_SIZE: [(reference.n, _attributes(name)) for name, reference in sizes.items()],
            FEATURE_REFERENCE_DEVIATION: [
                (value, _attributes(name)) for name, value in deviations if value is not None
            ],
            PREDICTION_REFERENCE: [
                (share, {output_key: name}) for name, share in (outputs.shares if outputs else {}).items()
            ],
            CONFIDENCE_THRESHOLD: [] if threshold is None else [(threshold, {})],
            REPEATED_LIMIT: [] if repeated is None else [(repeated, {})],
            DRIFT_MIN_EFFECT: [(value, {ML_DRIFT_STATISTIC: name}) for name, value in drift.MIN_EFFECT.items()],
            DRIFT_CRITICAL_VALUE: [
                (value, {**_attributes(name), ML_DRIFT_STATISTIC: statistic})
                for (name, statistic), value in critical_values(model).items()
            ],
        },
        classes=tuple(model.classes or ()),
    )


def _attributes(feature: str, bin_name: str | None = None) -> Mapping[str, str]:
    """Return the metric attributes of a feature (none for `OUTPUTS`), or of one of its bins."""
    attributes = {ML_FEATURE_NAME: feature} if feature else {}
    return attributes if bin_name is None else {**attributes, ML_FEATURE_BIN: bin_name}


class MonitoredModel(Protocol):
    """The part of a model that determines its drift statistics; a loaded model and a bundle's manifest have it."""

    @property
    def features(self) -> Sequence[Feature]:
        """The features of the schema."""

    @property
    def output_reference(self) -> OutputReference | None:
        """The distribution of the model's outputs before it was served."""

    @property
    def confidence_threshold(self) -> float | None:
        """The confidence below which a prediction has low confidence."""

    @property
    def duplicate_probability(self) -> float | None:
        """An upper bound of the probability that two rows of the training data are equal; `None` if unknown."""


def critical_values(model: MonitoredModel) -> dict[tuple[str, str], float]:
    """Return the critical value of each drift statistic of a model, by feature (or `OUTPUTS`) and statistic.

    All statistics share the false alarm rate, so each critical value depends on their number.
    """
    monitored = [(feature.name, statistic) for feature in model.features for statistic in _statistics(feature)]
    if model.output_reference:
        monitored += [(OUTPUTS, drift.PSI), (OUTPUTS, drift.JENSEN_SHANNON)]
        if model.output_reference.edges is not None:
            monitored.append((OUTPUTS, drift.KS))
    if model.confidence_threshold is not None:
        monitored.append((OUTPUTS, drift.LOW_CONFIDENCE))
    level = drift.FALSE_ALARM_RATE / len(monitored)
    features = {feature.name: feature for feature in model.features}
    values = {}
    for name, statistic in monitored:
        reference = features[name].reference if name else model.output_reference
        if reference and statistic == drift.PSI:
            values[name, statistic] = drift.critical_psi(len(reference.shares), reference.n, level)
        elif reference and statistic == drift.JENSEN_SHANNON:
            values[name, statistic] = drift.critical_jensen_shannon(len(reference.shares), level)
        elif statistic == drift.KS:
            values[name, statistic] = drift.critical_ks(level)
        elif statistic == drift.MEAN_CHANGE:
            moments = _moments(features[name])
            values[name, statistic] = drift.critical_mean_change(*moments, level) if moments else math.inf
        else:
            values[name, statistic] = drift.critical_increase(level)
    return values


def _statistics(feature: Feature) -> Iterator[str]:
    yield from (drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES)
    if feature.reference.edges is None:
        yield drift.NEW_CATEGORIES
        return
    yield drift.KS
    # The sums of private features are not recorded, so their means are unknown. For a feature that hardly varies, a
    # change of mean has no reliable scale; its bins still show a change.
    if str(feature.privacy) == "plain" and (moments := _moments(feature)) and drift.has_reliable_deviation(*moments):
        yield drift.MEAN_CHANGE


def _moments(feature: Feature) -> tuple[float, float, float, float, int] | None:
    """Return mean, deviation, minimum, maximum and number of values; `None` if unknown, or if all values are equal.

    The range determines whether all values are equal: their computed deviation may be a rounding error instead of 0.
    """
    reference = feature.reference
    if not reference.deviation or reference.mean is None or not feature.training_range:
        return None
    low, high = feature.training_range
    if not low < high or drift.mean_scale(reference.mean, reference.deviation) < MIN_SCALE:
        return None
    present = round(reference.n * (1 - reference.shares[MISSING]))
    return reference.mean, reference.deviation, low, high, present
