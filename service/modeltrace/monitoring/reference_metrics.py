"""What a bundle says of the data that its model was fitted on, as telemetry takes it."""

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

# The features' name where the answers are meant: no feature has none.
OUTPUTS = ""
# Of a smaller scale, a change of mean can be more than a double holds: no share of it is computed.
MIN_SCALE = 2.0**-800


def reference_metrics(model: Model) -> ReferenceData:
    """The bins of all features, how the training data fell into them, and what drift is told by."""
    bins = FeatureBins(model.schema)
    references = {feature.name: feature.reference for feature in model.schema.features}
    answers = model.output_reference
    sized: dict[str, Reference] = {**references, **({OUTPUTS: answers} if answers else {})}
    deviations = [(name, references[name].deviation) for name in bins.numeric_names]
    binned = ML_PREDICTION_BIN if answers and answers.edges is not None else ML_PREDICTION_LABEL
    threshold = model.confidence_threshold
    most_repeated = None
    if model.duplicate_probability is not None:
        most_repeated = drift.max_repeated_share(model.duplicate_probability, 2 * REMEMBERED_ROWS)
    return ReferenceData(
        bins,
        {
            FEATURE_REFERENCE: [(references[name].shares[one], _named(name, one)) for name, one in bins.bin_names],
            FEATURE_REFERENCE_MEAN: [(references[name].mean or 0.0, _named(name)) for name in bins.numeric_names],
            REFERENCE_SIZE: [(one.n, _named(name)) for name, one in sized.items()],
            FEATURE_REFERENCE_DEVIATION: [(value, _named(name)) for name, value in deviations if value is not None],
            PREDICTION_REFERENCE: [(q, {binned: one}) for one, q in (answers.shares if answers else {}).items()],
            CONFIDENCE_THRESHOLD: [] if threshold is None else [(threshold, {})],
            REPEATED_LIMIT: [] if most_repeated is None else [(most_repeated, {})],
            DRIFT_MIN_EFFECT: [(value, {ML_DRIFT_STATISTIC: name}) for name, value in drift.MIN_EFFECT.items()],
            DRIFT_CRITICAL_VALUE: [
                (value, {**_named(name), ML_DRIFT_STATISTIC: statistic})
                for (name, statistic), value in critical_values(model).items()
            ],
        },
        classes=tuple(model.classes or ()),
    )


def _named(feature: str, one: str | None = None) -> Mapping[str, str]:
    """The attributes of a feature, or of one of its bins."""
    return {**({ML_FEATURE_NAME: feature} if feature else {}), **({} if one is None else {ML_FEATURE_BIN: one})}


class MonitoredModel(Protocol):
    """What of a model decides what is watched: a loaded one has it, and so has its bundle's manifest."""

    @property
    def features(self) -> Sequence[Feature]:
        """The feature schema."""

    @property
    def output_reference(self) -> OutputReference | None:
        """What it answered before it was served."""

    @property
    def confidence_threshold(self) -> float | None:
        """Below it an answer has low confidence."""

    @property
    def duplicate_probability(self) -> float | None:
        """The chance that two rows of the training data are equal, at most; none where nobody knows."""


def critical_values(model: MonitoredModel) -> dict[tuple[str, str], float]:
    """By feature (`OUTPUTS` for the answers) and statistic, what is watched of a model, and its critical value.

    All of them share the chance of a false alarm, so how many there are decides what each must exceed.
    """
    watched = [(feature.name, statistic) for feature in model.features for statistic in _watched(feature)]
    if model.output_reference:
        binned = model.output_reference.edges is not None
        watched += [(OUTPUTS, one) for one in (drift.PSI, drift.JENSEN_SHANNON, *([drift.KS] if binned else []))]
    if model.confidence_threshold is not None:
        watched.append((OUTPUTS, drift.LOW_CONFIDENCE))
    level = drift.FALSE_ALARM_RATE / len(watched)
    features = {feature.name: feature for feature in model.features}
    values = {}
    for name, statistic in watched:
        reference = features[name].reference if name else model.output_reference
        if reference and statistic == drift.PSI:
            values[name, statistic] = drift.critical_psi(len(reference.shares), reference.n, level)
        elif reference and statistic == drift.JENSEN_SHANNON:
            values[name, statistic] = drift.critical_jensen_shannon(len(reference.shares), level)
        elif statistic == drift.KS:
            values[name, statistic] = drift.critical_ks(level)
        elif statistic == drift.MEAN_CHANGE:
            spread = _spread(features[name])
            values[name, statistic] = drift.critical_mean_change(*spread, level) if spread else math.inf
        else:
            values[name, statistic] = drift.critical_increase(level)
    return values


def _watched(feature: Feature) -> Iterator[str]:
    reference = feature.reference
    yield from (drift.PSI, drift.JENSEN_SHANNON, drift.MISSING_VALUES)
    if reference.edges is None:
        yield drift.NEW_CATEGORIES
    else:
        yield drift.KS
        # What hardly ever varied has no scale for a change: its bins tell it.
        # Of what is private there is no sum, so no mean.
        if str(feature.privacy) == "plain" and (spread := _spread(feature)) and drift.has_reliable_deviation(*spread):
            yield drift.MEAN_CHANGE


def _spread(feature: Feature) -> tuple[float, float, float, float, int] | None:
    """Mean, deviation, lowest and highest value, and of how many; nothing where it did not vary or nobody knows.

    The range decides whether it varied: the deviation of equal values may be a rounding error.
    """
    reference = feature.reference
    if not reference.deviation or reference.mean is None or not feature.training_range:
        return None
    low, high = feature.training_range
    if not low < high or drift.mean_scale(reference.mean, reference.deviation) < MIN_SCALE:
        return None
    present = round(reference.n * (1 - reference.shares[MISSING]))
    return reference.mean, reference.deviation, low, high, present
