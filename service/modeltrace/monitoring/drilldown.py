"""Drill-down for a drift alert: the predictions in the bins whose share has increased.

It reads the prediction store instead of metrics, because the store contains the trace IDs and all predictions,
independent of trace sampling.
"""

from collections.abc import Collection, Iterable
from typing import Final

from modeltrace.bin_names import describe_numeric_bins
from modeltrace.errors import ModeltraceError
from modeltrace.inference.monitored_outputs import MonitoredOutputs, embedding_values
from modeltrace.inference.schema import Feature, Schema
from modeltrace.monitoring import drift
from modeltrace.monitoring.bin_counter import BinCounter, Drilldown
from modeltrace.monitoring.binning import FeatureBins
from modeltrace.monitoring.drift_check import (
    check_confidence,
    check_drift,
    window_independent_share,
)
from modeltrace.monitoring.output_bins import OutputBins
from modeltrace.monitoring.reference_gauges import OUTPUTS, MonitoredModel, critical_values, named_output_key
from modeltrace.monitoring.segment_bins import segment_bins
from modeltrace.store.rows import StoredPrediction
from modeltrace.telemetry.records.model_info import ModelInfo
from modeltrace.telemetry.records.prediction import PredictedRow

# The name of the model's outputs, in place of a feature's name.
PREDICTION: Final = "prediction"


class DrilldownError(ModeltraceError):
    """The predictions of a feature cannot be listed by bin."""


def drill_down(
    model: MonitoredModel,
    info: ModelInfo,
    feature: str,
    predictions: Iterable[StoredPrediction],
    *,
    max_traces: int,
    model_hashes: Collection[str] = (),
) -> Drilldown:
    """Count predictions of one model into the bins of a feature, or of the model's outputs.

    Args:
        model: the model's features and references.
        info: the model's name, version and features.
        feature: the name of the feature, `PREDICTION` for the model's label or value, or `PREDICTION.NAME` for a
            monitored named output.
        predictions: the predictions of this name and version, by time.
        max_traces: the maximum number of latest predictions for each bin.
        model_hashes: the hashes of the model's files. Predictions by other files are excluded. Empty for no filter.

    Raises:
        DrilldownError: the model does not have the feature, or its values are private.
    """
    output = feature.removeprefix(f"{PREDICTION}.")
    if model.monitored_outputs is not None and feature not in info.features:
        if feature == PREDICTION and model.output_reference is None:
            raise DrilldownError(
                f"{info.name} {info.version} has named outputs; name one: {_named_outputs(model.monitored_outputs)}"
            )
        if output != feature and output in model.monitored_outputs.references:
            return _drill_down_output(model, info, output, predictions, (max_traces, model_hashes))
    if feature == PREDICTION and PREDICTION not in info.features:
        if model.output_reference is None:
            raise DrilldownError(
                f"the bundle of {info.name} {info.version} has no reference of the model's outputs; pack it again"
            )
        bounds = describe_numeric_bins(model.output_reference.edges or ())
        counter = BinCounter(model, model.output_reference, bounds, max_traces, model_hashes)
        return _drill_down_outputs(model, info, predictions, counter)
    features = {candidate.name: candidate for candidate in model.features}
    if feature not in features:
        outputs = "" if model.monitored_outputs is None else f", {_named_outputs(model.monitored_outputs)}"
        raise DrilldownError(
            f"{info.name} {info.version} has no feature {feature}; it has {', '.join(info.features)}{outputs}"
        )
    if (rule := str(features[feature].privacy)) != "plain":
        raise DrilldownError(
            f"{feature} is `{rule}` in the schema of {info.name} {info.version}: the prediction store does "
            "not have its original values, so the predictions of a bin are not known"
        )
    bins = segment_bins([features[feature]]).get(feature)
    counter = BinCounter(model, features[feature].reference, bins.names if bins else [], max_traces, model_hashes)
    return _drill_down_feature(model, features[feature], predictions, counter)


def _drill_down_feature(
    model: MonitoredModel, feature: Feature, predictions: Iterable[StoredPrediction], counter: "BinCounter"
) -> Drilldown:
    bins = FeatureBins(Schema(features=(feature,)))
    names = [name for _, name in bins.bin_names]
    erased = 0
    for stored in filter(counter.is_same_model, predictions):
        if stored.inputs is None:
            erased += 1
            continue
        value = stored.inputs.get(feature.name)
        numbers = bins.numeric_values([(value,)])
        counter.add(names[int(bins.digitize([(value,)], numbers)[0, 0])], stored, value)
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == feature.name}
    if not feature.accepts_missing:
        # Rows without the feature were rejected, so the store does not contain them.
        criticals.pop(drift.MISSING_VALUES, None)
    results = check_drift(feature.reference, counter.window(), criticals)
    return counter.drilldown(feature.name, erased, results)


def _drill_down_outputs(
    model: MonitoredModel, info: ModelInfo, predictions: Iterable[StoredPrediction], counter: "BinCounter"
) -> Drilldown:
    low_confidence, with_confidence = 0, 0
    for stored in filter(counter.is_same_model, predictions):
        row = PredictedRow(
            stored.row, stored.prediction_id, stored.label, stored.confidence, stored.value, (), stored.time
        )
        if (name := str(info.outcome(row))) in counter.reference.shares:
            counter.add(name, stored, stored.label if stored.value is None else stored.value)
        if stored.confidence is not None:
            with_confidence += 1
            low_confidence += info.is_low_confidence(row)
    criticals = {name: value for (of, name), value in critical_values(model).items() if of == OUTPUTS}
    critical = criticals.pop(drift.LOW_CONFIDENCE, None)
    window = counter.window()
    results = check_drift(counter.reference, window, criticals, has_reference=model.held_out is not None)
    if critical is not None:
        results.append(
            check_confidence(
                low_confidence,
                with_confidence,
                critical,
                model.held_out,
                rows_repeat=counter.rows_repeat,
                independent_share=window_independent_share(counter.reference, window),
            )
        )
    return counter.drilldown(PREDICTION, 0, results)


def _named_outputs(monitored: MonitoredOutputs) -> str:
    return ", ".join(f"{PREDICTION}.{name}" for name in monitored.references)


def _drill_down_output(
    model: MonitoredModel,
    info: ModelInfo,
    name: str,
    predictions: Iterable[StoredPrediction],
    limits: tuple[int, Collection[str]],
) -> Drilldown:
    monitored = model.monitored_outputs
    if monitored is None:
        raise DrilldownError(f"the bundle of {info.name} {info.version} has no distribution of {name}; pack it again")
    bins = OutputBins(monitored, info.outputs)
    column = bins.names.index(name)
    reference = monitored.references[name]
    counter = BinCounter(model, reference, describe_numeric_bins(reference.edges or ()), *limits)
    erased = 0
    for stored in filter(counter.is_same_model, predictions):
        if stored.outputs is None:
            erased += 1
            continue
        values = tuple(stored.outputs[output] for output in info.outputs)
        value = stored.outputs.get(name)
        if monitored.mean is not None:  # of an embedding
            value = float(embedding_values([values], monitored.mean)[name][0])
        counter.add(bins.bin_names[int(bins.digitize([values])[0, column])][1], stored, value)
    key = named_output_key(name)
    criticals = {statistic: value for (of, statistic), value in critical_values(model).items() if of == key}
    results = check_drift(reference, counter.window(), criticals, has_reference=model.held_out is not None)
    return counter.drilldown(f"{PREDICTION}.{name}", erased, results)
