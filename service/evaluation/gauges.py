"""The figures as gauges. Series are few: the versions of a served model, and the classes of its bundle."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from service.evaluation.figures import Classification, Figures, OfClass
from service.store.rows import identity
from service.telemetry import metrics
from service.telemetry.metrics import Instrument
from service.telemetry.names import ML_EVALUATION_LABEL, ML_MODEL_HASH, ML_MODEL_NAME, ML_MODEL_VERSION, QUANTILE


class Point(NamedTuple):
    """A value of a gauge, and what it says beside the model's name and version."""

    instrument: Instrument
    value: float
    attributes: dict[str, str]


def observe(
    meter: Meter, models: Callable[[], Mapping[str, Iterable[object]]], current: Callable[[], Sequence[Figures]]
) -> None:
    """Make gauges of what `current` gives at each export; without figures they have no points at all.

    `models` gives the classes of each model, by its name.
    """

    def observing(instrument: Instrument) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe_one(_: CallbackOptions) -> Iterable[Observation]:
            known = models()
            for figures in current():
                model = {ML_MODEL_NAME: figures.model_name, ML_MODEL_VERSION: figures.model_version}
                if figures.model_hash:
                    model[ML_MODEL_HASH] = figures.model_hash
                for point in points(figures, {identity(label) for label in known.get(figures.model_name, ())}):
                    if point.instrument is instrument:
                        yield Observation(point.value, {**model, **point.attributes})

        return observe_one

    for one in metrics.EVALUATION:
        meter.create_observable_gauge(one.name, [observing(one)], one.unit, one.description)


def points(figures: Figures, known: set[tuple[bool, object]]) -> Iterator[Point]:
    """All points of one version; of classes only those that are `known`, as `identity` has them."""
    yield Point(metrics.EVALUATED, figures.predictions, {})
    yield Point(metrics.LABELS, figures.labels, {})
    if figures.label_coverage is not None:
        yield Point(metrics.LABEL_COVERAGE, figures.label_coverage, {})
    for quantile, delay in figures.delays.items():
        yield Point(metrics.LABEL_DELAY, delay, {QUANTILE: str(quantile)})
    if figures.classification:
        yield from _of_a_classifier(figures.classification, known)
    if figures.regression:
        yield Point(metrics.MEAN_ABSOLUTE_ERROR, figures.regression.mean_absolute_error, {})
        yield Point(metrics.ROOT_MEAN_SQUARED_ERROR, figures.regression.root_mean_squared_error, {})
        if figures.regression.r2 is not None:
            yield Point(metrics.R2, figures.regression.r2, {})
    if figures.drift and figures.drift.error_rate is not None:
        yield Point(metrics.DRIFT_LEVEL, figures.drift.level, {})
        yield Point(metrics.DRIFT_ERROR_RATE, figures.drift.error_rate, {})


def _of_a_classifier(found: Classification, known: set[tuple[bool, object]]) -> Iterator[Point]:
    """Without a class, precision, recall and F1 are means over classes."""
    yield Point(metrics.ACCURACY, found.accuracy, {})
    classes = [({ML_EVALUATION_LABEL: str(one.label)}, one) for one in found.classes if identity(one.label) in known]
    every: list[tuple[dict[str, str], Classification | OfClass]] = [({}, found), *classes]
    for said, one in every:
        yield Point(metrics.PRECISION, one.precision, said)
        yield Point(metrics.RECALL, one.recall, said)
        yield Point(metrics.F1, one.f1, said)
    if found.calibration:
        yield Point(metrics.CALIBRATION_ERROR, found.calibration.error, {})
        yield Point(metrics.BRIER_SCORE, found.calibration.brier_score, {})
