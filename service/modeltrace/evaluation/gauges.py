"""The figures as gauges. Series are few: the versions of a served model, and the classes of its bundle."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from modeltrace.evaluation.metrics import ClassificationMetrics, ClassMetrics, ModelMetrics
from modeltrace.store.rows import label_key
from modeltrace.telemetry.metrics import instruments
from modeltrace.telemetry.metrics.instruments import Instrument
from modeltrace.telemetry.names import ML_EVALUATION_LABEL, ML_MODEL_HASH, ML_MODEL_NAME, ML_MODEL_VERSION, QUANTILE


class GaugePoint(NamedTuple):
    """A value of a gauge, and what it says beside the model's name and version."""

    instrument: Instrument
    value: float
    attributes: dict[str, str]


def register_gauges(
    meter: Meter,
    models: Callable[[], Mapping[str, Iterable[object]]],
    current_metrics: Callable[[], Sequence[ModelMetrics]],
) -> None:
    """Make gauges of what `current` gives at each export; without figures they have no points at all.

    `models` gives the classes of each model, by its name.
    """

    def observing(instrument: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe_one(_: CallbackOptions) -> Iterable[Observation]:
            known = models()
            for figures in current_metrics():
                model = {ML_MODEL_NAME: figures.model_name, ML_MODEL_VERSION: figures.model_version}
                if figures.model_hash:
                    model[ML_MODEL_HASH] = figures.model_hash
                for point in metric_points(figures, {label_key(label) for label in known.get(figures.model_name, ())}):
                    if point.instrument is instrument:
                        yield Observation(point.value, {**model, **point.attributes})

        return observe_one

    for one in instruments.EVALUATION_GAUGES:
        meter.create_observable_gauge(one.name, [observing(one)], one.unit, one.description)


def metric_points(figures: ModelMetrics, known_labels: set[tuple[bool, object]]) -> Iterator[GaugePoint]:
    """All points of one version; of classes only those that are `known`, as `identity` has them."""
    yield GaugePoint(instruments.EVALUATED_PREDICTIONS, figures.predictions, {})
    yield GaugePoint(instruments.LABELS, figures.labels, {})
    if figures.label_coverage is not None:
        yield GaugePoint(instruments.LABEL_COVERAGE, figures.label_coverage, {})
    for quantile, delay in figures.label_delays.items():
        yield GaugePoint(instruments.LABEL_DELAY, delay, {QUANTILE: str(quantile)})
    if figures.classification:
        yield from _classification_points(figures.classification, known_labels)
    if figures.regression:
        yield GaugePoint(instruments.MEAN_ABSOLUTE_ERROR, figures.regression.mean_absolute_error, {})
        yield GaugePoint(instruments.ROOT_MEAN_SQUARED_ERROR, figures.regression.root_mean_squared_error, {})
        if figures.regression.r2 is not None:
            yield GaugePoint(instruments.R2, figures.regression.r2, {})
    if figures.drift and figures.drift.error_rate is not None:
        yield GaugePoint(instruments.DRIFT_LEVEL, figures.drift.level, {})
        yield GaugePoint(instruments.DRIFT_ERROR_RATE, figures.drift.error_rate, {})


def _classification_points(found: ClassificationMetrics, known: set[tuple[bool, object]]) -> Iterator[GaugePoint]:
    """Without a class, precision, recall and F1 are means over classes."""
    yield GaugePoint(instruments.ACCURACY, found.accuracy, {})
    classes = [({ML_EVALUATION_LABEL: str(one.label)}, one) for one in found.classes if label_key(one.label) in known]
    every: list[tuple[dict[str, str], ClassificationMetrics | ClassMetrics]] = [({}, found), *classes]
    for said, one in every:
        yield GaugePoint(instruments.PRECISION, one.precision, said)
        yield GaugePoint(instruments.RECALL, one.recall, said)
        yield GaugePoint(instruments.F1, one.f1, said)
    if found.calibration:
        yield GaugePoint(instruments.CALIBRATION_ERROR, found.calibration.expected_calibration_error, {})
        yield GaugePoint(instruments.BRIER_SCORE, found.calibration.brier_score, {})
