"""Values of the gauges that describe the training data of a model, and the limits of its drift statistics."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from modeltrace.bin_names import UNSEEN
from modeltrace.inference.held_out import HeldOut
from modeltrace.inference.model import Model
from modeltrace.inference.monitored_outputs import MonitoredOutputs
from modeltrace.inference.schema import Feature, OutputReference, Reference
from modeltrace.monitoring import drift
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.dependence import bin_scores
from modeltrace.monitoring.held_out_baseline import baseline_of
from modeltrace.monitoring.output_bins import OutputBins
from modeltrace.telemetry.metrics.instruments import (
    CONFIDENCE_THRESHOLD,
    DRIFT_CRITICAL_VALUE,
    DRIFT_MIN_EFFECT,
    FEATURE_REFERENCE,
    FEATURE_REFERENCE_DEVIATION,
    FEATURE_REFERENCE_MEAN,
    HELD_OUT_ROWS,
    LOW_CONFIDENCE_REFERENCE,
    MODEL_LOADED,
    OUTPUT_REFERENCE,
    PREDICTION_REFERENCE,
    REFERENCE_SCORE,
    REFERENCE_SIZE,
    REPEATED_LIMIT,
)
from modeltrace.telemetry.metrics.model_catalog import ReferenceData
from modeltrace.telemetry.metrics.row_dependence import REMEMBERED_ROWS
from modeltrace.telemetry.names import (
    ML_DRIFT_STATISTIC,
    ML_FEATURE_BIN,
    ML_FEATURE_NAME,
    ML_MODEL_HASH,
    ML_OUTPUT_BIN,
    ML_OUTPUT_NAME,
    ML_PREDICTION_BIN,
    ML_PREDICTION_LABEL,
)

# The key of the model's outputs in place of a feature's name. No feature has an empty name.
OUTPUTS = ""
# The first character of the key of a named output. Names of features contain no control characters.
_NAMED_OUTPUT = "\x1f"


def named_output_key(name: str) -> str:
    """Return the key of a named output in place of a feature's name."""
    return _NAMED_OUTPUT + name


def reference_metrics(model: Model) -> ReferenceData:
    """Return the bins of all features, and the data points of each gauge: training data and drift limits."""
    bins = FeatureBins(model.schema)
    references = {feature.name: feature.reference for feature in model.schema.features}
    outputs = model.output_reference
    named = {} if model.monitored_outputs is None else model.monitored_outputs.references
    sizes: dict[str, Reference] = {**references, **({OUTPUTS: outputs} if outputs else {})}
    sizes |= {named_output_key(name): reference for name, reference in named.items()}
    deviations = [(name, references[name].deviation) for name in bins.numeric_names]
    output_key = ML_PREDICTION_BIN if outputs and outputs.edges is not None else ML_PREDICTION_LABEL
    threshold, held_out = model.confidence_threshold, model.held_out
    low_confidence = None if held_out is None else held_out.low_confidence_share
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
            REFERENCE_SCORE: [point for name, reference in sizes.items() for point in _scores(name, reference)],
            REFERENCE_SIZE: [(reference.n, _attributes(name)) for name, reference in sizes.items()],
            FEATURE_REFERENCE_DEVIATION: [
                (value, _attributes(name)) for name, value in deviations if value is not None
            ],
            PREDICTION_REFERENCE: [
                (share, {output_key: name}) for name, share in (outputs.shares if outputs else {}).items()
            ],
            OUTPUT_REFERENCE: [
                (share, _attributes(named_output_key(name), bin_name))
                for name, reference in named.items()
                for bin_name, share in reference.shares.items()
            ],
            CONFIDENCE_THRESHOLD: [] if threshold is None else [(threshold, {})],
            HELD_OUT_ROWS: [(0 if held_out is None else held_out.rows, {})],
            LOW_CONFIDENCE_REFERENCE: [] if low_confidence is None else [(low_confidence, {})],
            REPEATED_LIMIT: [] if repeated is None else [(repeated, {})],
            MODEL_LOADED: [(1, {ML_MODEL_HASH: model.hash})],
            DRIFT_MIN_EFFECT: [(value, {ML_DRIFT_STATISTIC: name}) for name, value in drift.MIN_EFFECT.items()],
            DRIFT_CRITICAL_VALUE: [
                (value, {**_attributes(name), ML_DRIFT_STATISTIC: statistic})
                for (name, statistic), value in critical_values(model).items()
            ],
        },
        output_scores=bin_scores(outputs) if outputs else {},
        classes=model.classes or tuple(label for output in model.outputs for label in output.classes or ()),
        output_bins=OutputBins(model.monitored_outputs, model.output_names) if model.monitored_outputs else None,
        baseline=baseline_of(model.held_out),
    )


def _attributes(feature: str, bin_name: str | None = None) -> Mapping[str, str]:
    """Return the metric attributes of a feature (none for `OUTPUTS`) or a named output, or of one of its bins."""
    if feature.startswith(_NAMED_OUTPUT):
        named = {ML_OUTPUT_NAME: feature.removeprefix(_NAMED_OUTPUT)}
        return named if bin_name is None else {**named, ML_OUTPUT_BIN: bin_name}
    attributes = {ML_FEATURE_NAME: feature} if feature else {}
    return attributes if bin_name is None else {**attributes, ML_FEATURE_BIN: bin_name}


def _scores(name: str, reference: Reference) -> Iterator[tuple[float, Mapping[str, str]]]:
    """Yield the score of each bin of numbers."""
    for bin_name, score in islice(bin_scores(reference).items(), len(reference.number_shares)):
        yield score, _attributes(name, bin_name) if name else {ML_PREDICTION_BIN: bin_name}


class MonitoredModel(Protocol):
    """The part of a model that determines its drift statistics; a loaded model and a bundle's manifest have it."""

    @property
    def features(self) -> Sequence[Feature]:
        """The features of the schema."""

    @property
    def output_reference(self) -> OutputReference | None:
        """The distribution of the model's outputs before it was served."""

    @property
    def monitored_outputs(self) -> MonitoredOutputs | None:
        """The distributions of the named outputs before the model was served; `None` if none is monitored."""

    @property
    def confidence_threshold(self) -> float | None:
        """The confidence below which a prediction has low confidence."""

    @property
    def held_out(self) -> HeldOut | None:
        """What the model predicts for rows that it was not fitted on; `None` if unknown."""

    @property
    def duplicate_probability(self) -> float | None:
        """An upper bound of the probability that two rows of the training data are equal; `None` if unknown."""


def critical_values(model: MonitoredModel) -> dict[tuple[str, str], float]:
    """Return the critical value of each drift statistic, by feature (`OUTPUTS`, or `named_output_key`) and statistic.

    All statistics share the false alarm rate, so each critical value depends on their number.
    """
    references: dict[str, Reference] = {feature.name: feature.reference for feature in model.features}
    monitored = [
        (name, statistic)
        for name, reference in references.items()
        for statistic in (*_statistics(reference), drift.MISSING_VALUES)
    ]
    if model.output_reference:
        references[OUTPUTS] = model.output_reference
        monitored += [(OUTPUTS, statistic) for statistic in _statistics(model.output_reference)]
    if model.monitored_outputs is not None:
        for name, reference in model.monitored_outputs.references.items():
            references[named_output_key(name)] = reference
            monitored += [(named_output_key(name), statistic) for statistic in _statistics(reference)]
    if model.confidence_threshold is not None:
        monitored.append((OUTPUTS, drift.LOW_CONFIDENCE))
    level = drift.FALSE_ALARM_RATE / len(monitored)
    return {(name, statistic): _critical_value(statistic, references.get(name), level) for name, statistic in monitored}


def _statistics(reference: Reference) -> Iterator[str]:
    """Yield the statistics of the bins of a feature or of the outputs."""
    yield from (drift.PSI, drift.JENSEN_SHANNON)
    if reference.edges is None:
        yield drift.SHARE_CHANGE
        if UNSEEN in reference.shares:
            yield drift.NEW_CATEGORIES
        return
    yield drift.KS
    training = reference.number_shares
    for statistic in (drift.LOCATION, drift.SPREAD):
        if drift.has_reliable_scores(drift.bin_scores(statistic, training), training):
            yield statistic


def _critical_value(statistic: str, reference: Reference | None, level: float) -> float:
    if reference is None or statistic in (drift.MISSING_VALUES, drift.NEW_CATEGORIES, drift.LOW_CONFIDENCE):
        return drift.critical_share(level)
    bins = len(reference.shares)
    match statistic:
        case drift.PSI:
            return drift.critical_psi(bins, reference.n, level)
        case drift.JENSEN_SHANNON:
            return drift.critical_jensen_shannon(bins, level)
        case drift.KS:
            return drift.critical_ks(level)
        case drift.LOCATION | drift.SPREAD:
            training = np.array(reference.number_shares) * reference.n
            return drift.critical_score(drift.bin_scores(statistic, training), training, level)
        case _:  # each bin is a test
            return drift.critical_share(level / bins)
