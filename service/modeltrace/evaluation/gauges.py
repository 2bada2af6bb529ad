"""The figures as gauges. Series are few: the versions of a served model, and the classes of its bundle."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from modeltrace.evaluation.metrics import Classification, Figures, OfClass
from modeltrace.store.rows import identity
from modeltrace.telemetry.metrics import instruments
from modeltrace.telemetry.metrics.instruments import Instrument
from modeltrace.telemetry.names import ML_EVALUATION_LABEL, ML_MODEL_HASH, ML_MODEL_NAME, ML_MODEL_VERSION, QUANTILE


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

    for one in instruments.EVALUATION:
        meter.create_observable_gauge(one.name, [observing(one)], one.unit, one.description)


def points(figures: Figures, known: set[tuple[bool, object]]) -> Iterator[Point]:
    """All points of one version; of classes only those that are `known`, as `identity` has them."""
    yield Point(instruments.EVALUATED, figures.predictions, {})
    yield Point(instruments.LABELS, figures.labels, {})
    if figures.label_coverage is not None:
        yield Point(instruments.LABEL_COVERAGE, figures.label_coverage, {})
    for quantile, delay in figures.delays.items():
        yield Point(instruments.LABEL_DELAY, delay, {QUANTILE: str(quantile)})
    if figures.classification:
        yield from _of_a_classifier(figures.classification, known)
    if figures.regression:
        yield Point(instruments.MEAN_ABSOLUTE_ERROR, figures.regression.mean_absolute_error, {})
        yield Point(instruments.ROOT_MEAN_SQUARED_ERROR, figures.regression.root_mean_squared_error, {})
        if figures.regression.r2 is not None:
            yield Point(instruments.R2, figures.regression.r2, {})
    if figures.drift and figures.drift.error_rate is not None:
        yield Point(instruments.DRIFT_LEVEL, figures.drift.level, {})
        yield Point(instruments.DRIFT_ERROR_RATE, figures.drift.error_rate, {})


def _of_a_classifier(found: Classification, known: set[tuple[bool, object]]) -> Iterator[Point]:
    """Without a class, precision, recall and F1 are means over classes."""
    yield Point(instruments.ACCURACY, found.accuracy, {})
    classes = [({ML_EVALUATION_LABEL: str(one.label)}, one) for one in found.classes if identity(one.label) in known]
    every: list[tuple[dict[str, str], Classification | OfClass]] = [({}, found), *classes]
    for said, one in every:
        yield Point(instruments.PRECISION, one.precision, said)
        yield Point(instruments.RECALL, one.recall, said)
        yield Point(instruments.F1, one.f1, said)
    if found.calibration:
        yield Point(instruments.CALIBRATION_ERROR, found.calibration.error, {})
        yield Point(instruments.BRIER_SCORE, found.calibration.brier_score, {})
